"""What a task asks of a physics engine.

Shape legend: N environments, D actuated joints, H hands, F fingertips per hand, B free blocks, M chosen environments.

An engine steps N copies of one scene with D position-controlled joints, H hands that carry F fingertip points each, and
one free rigid object; B more free boxes may stand in the way. It knows nothing about goals or rewards. All tensors are
float32 on `device` unless said otherwise; all positions, velocities and forces are in the world frame, in SI units;
quaternions are (x, y, z, w).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from epo_lightning.limits import Mistake
from epo_lightning.physics.rows import take

if TYPE_CHECKING:
    import mujoco

FACTORS = ("friction", "mass", "stiffness", "damping")
"""What environments may differ in, as factors of what the scene says: all friction coefficients of all geoms; mass and
inertia of the object (the rate at which its spin decays stays); stiffness and damping of all drives (their torque
limits stay)."""


WantedThreads = int | Literal["auto"] | None
"""What a configuration may say of CPU threads: a number, `auto` to measure, or null for all cores."""


class PhysicsState(NamedTuple):
    """What can be read after a step: buffers of the engine, valid until its next call, not to be written.

    Attributes:
        joint_pos: (N, D) joint angles, rad.
        joint_vel: (N, D) joint velocities, rad/s.
        palm_pos: (N, H, 3) palm points, m.
        wrist: (N, H, 10) last arm link: quaternion (4), linear velocity of its origin (3), angular velocity (3).
        object_frame: (N, 10) object: quaternion (4), linear velocity (3), angular velocity (3).
        tip_pos: (N, H, F, 3) fingertip points, m.
        object_pos: (N, 3) centre of the object, m.
        blocks: (N, B, 13) free blocks: position (3), quaternion (4), linear velocity (3), angular velocity (3).
    """

    joint_pos: Tensor
    joint_vel: Tensor
    palm_pos: Tensor
    wrist: Tensor
    object_frame: Tensor
    tip_pos: Tensor
    object_pos: Tensor
    blocks: Tensor

    def rows(self, ids: Tensor) -> "PhysicsState":
        """A copy of the environments `ids`, as `rows` has them."""
        return PhysicsState(*(take(field, ids) for field in self))


class Physics(ABC):
    """N copies of a scene behind one tensor interface.

    Attributes:
        num_envs: N.
        device: Where all tensors live.
        model: The scene, a MuJoCo MjModel; size and mass of the object are those of no environment in particular.
        state: What the last `step`, `reset` or `load_state_dict` left; the same tensors for the life of the engine.
        blown_up: (N,) bool, environments whose simulation failed in the last `step` (NaN, runaway velocities, an engine
            error). Their state is finite but meaningless: the caller must `reset` them. Cleared by the next `step`.
        masked: Whether `ids` may also be an (N,) bool mask, with N rows of whatever belongs to it (see `rows`): engines
            on a GPU, for which the host then never has to wait.
    """

    masked: bool = False

    num_envs: int
    device: torch.device
    model: "mujoco.MjModel"
    state: PhysicsState
    blown_up: Tensor

    @abstractmethod
    def step(self, targets: Tensor, object_force: Tensor | None = None) -> None:
        """Advance all environments by one control step.

        Args:
            targets: (N, D) joint targets, rad.
            object_force: (N, 3) force on the object's centre during this step, N; None for no force.
        """

    @abstractmethod
    def reset(
        self, ids: Tensor, joint_pos: Tensor, joint_vel: Tensor, object_pos: Tensor, object_quat: Tensor
    ) -> PhysicsState:
        """Put the environments `ids` into a given state and refresh their rows of `state`; others are untouched.

        The object is at rest, everything else in the scene goes to its initial pose, and nothing (contact forces, warm
        starts, goal poses) is remembered.

        Args:
            ids: (M,) int64, sorted, each once.
            joint_pos: (M, D) joint angles, rad.
            joint_vel: (M, D) joint velocities, rad/s.
            object_pos: (M, 3) centre of the object, m.
            object_quat: (M, 4) its orientation.

        Returns:
            A copy of their rows of `state`.
        """

    @abstractmethod
    def place_object(self, ids: Tensor, pos: Tensor, quat: Tensor) -> None:
        """Move the object of the environments `ids` (M,) to rest at `pos` (M, 3), `quat` (M, 4).

        `state` shows it after the next `step`.
        """

    @abstractmethod
    def place_goal(self, ids: Tensor, pos: Tensor, quat: Tensor) -> None:
        """Move the goal's body (a marker, or a bucket that can be hit) of `ids` (M,) to `pos` (M, 3), `quat` (M, 4)."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that the future depends on, as tensors and plain values: restoring it continues to the bit."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; raises `Mistake` when it belongs to another number of environments or scene."""

    def vary(self, ids: Tensor, factors: Mapping[str, Tensor]) -> None:
        """Multiply values of the scene in the environments `ids`, from the next step on, until they are told others.

        Saved states do not hold the factors: who draws them does.

        Args:
            ids: (M,) int64, sorted, each once.
            factors: (M,) of each of `FACTORS` that the engine was made for.

        Raises:
            Mistake: When the engine cannot.
        """
        raise Mistake(
            f"data.env.init_args.randomization: {type(self).__name__} cannot vary its scene: it does not implement"
            " vary()"
        )

    def settle(self, saved: Mapping[str, Any] | None = None) -> str:
        """Choose what results do not depend on, such as a number of threads, where that is to be measured.

        Args:
            saved: A `state_dict()`: then what it was made with, and nothing is measured.

        Returns:
            One line that tells the choice; empty where there was none to make.
        """
        return ""

    def chosen(self) -> dict[str, Any]:
        """What `settle` has chosen, as plain values by name; nothing where there is nothing to choose."""
        return {}

    def snapshot(self, env: int) -> "tuple[mujoco.MjModel, mujoco.MjData]":
        """Scene and present state of environment `env` as MuJoCo's (MjModel, MjData), to be drawn.

        Raises:
            Mistake: When the engine has none.
        """
        raise Mistake(f"{type(self).__name__} cannot be drawn: it does not implement snapshot()")

    def push(self, env: int, force: Tensor) -> None:
        """Push the object of environment `env` during the next `step` only, in addition to its `object_force`.

        Args:
            env: Number of the environment.
            force: (3,) force on the object's centre, N.

        Raises:
            Mistake: When the engine cannot.
        """
        raise Mistake(f"{type(self).__name__} cannot push the object: it does not implement push()")

    def close(self) -> None:  # noqa: B027  (nothing to free is the common case)
        """Free threads and device memory."""
