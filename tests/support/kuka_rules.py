"""The rules of an Allegro-Kuka task, and states made by hand for them."""

from typing import Any

import torch

from epo_lightning.envs.allegro_kuka.cards import variant
from epo_lightning.envs.allegro_kuka.curriculum import Curriculum
from epo_lightning.envs.allegro_kuka.obstacles import Block
from epo_lightning.envs.allegro_kuka.task import Rules
from epo_lightning.physics.base import PhysicsState

IDENTITY = torch.tensor([0.0, 0.0, 0.0, 1.0])
LOW, HIGH = -2.0, 4.0
Point = tuple[float, float, float]


def rules(
    name: str = "two_arm",
    n: int = 2,
    scales: Point = (1.0, 2.0, 4.0),
    obstacles: list[Block] | None = None,
    observe: bool = False,
    speed: float | None = None,
    **kwargs: Any,
) -> Rules:
    task = variant(name, obstacles, observe, speed)
    low, high = torch.full((task.joints,), LOW), torch.full((task.joints,), HIGH)
    generator = torch.Generator().manual_seed(0)
    made = Rules(
        task, torch.tensor(scales).expand(n, 3), low, high, generator, Curriculum(shrinks=task.curriculum, **kwargs)
    )
    ids = torch.arange(n)
    made.restart(ids)
    made.new_goals(ids)
    return made


def state(r: Rules, pos: Point = (0.3, 0.0, 0.6), tip: float = 0.5, vel: float = 0.0) -> PhysicsState:
    """Object at `pos`, upright and at rest; every fingertip `tip` metres beside it; palms at the origin."""
    n, hands = r.num_envs, r.card.arms
    at = torch.tensor(pos).expand(n, 3).clone()
    wrist = torch.zeros(n, hands, 10)
    wrist[..., 3] = 1
    frame = torch.zeros(n, 10)
    frame[:, 3] = 1
    return PhysicsState(
        joint_pos=torch.zeros(n, r.card.joints),
        joint_vel=torch.full((n, r.card.joints), vel),
        palm_pos=torch.zeros(n, hands, 3),
        wrist=wrist,
        object_frame=frame,
        tip_pos=(at[:, None, None] + torch.tensor([0.0, tip, 0.0])).expand(n, hands, 4, 3).clone(),
        object_pos=at,
        blocks=torch.zeros(n, r.card.blocks_observed, 13),
    )


def goal_at(r: Rules, pos: Point) -> None:
    """The goal of all environments at `pos`, upright."""
    at = torch.tensor(pos).expand(r.num_envs, 3)
    r.memory.goal_keypoints.copy_(r._keypoints(at, IDENTITY.expand(r.num_envs, 4), r.offsets))


def calm(r: Rules) -> torch.Tensor:
    return torch.zeros(r.num_envs, dtype=torch.bool)
