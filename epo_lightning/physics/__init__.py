"""Physics engines that step N copies of one scene: the interface (`base`) and MuJoCo on CPU threads (`mujoco`)."""

from epo_lightning.physics.base import Physics, PhysicsState

__all__ = ["Physics", "PhysicsState"]
