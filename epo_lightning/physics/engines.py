"""The engine that a task's `physics` argument names."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from epo_lightning.limits import Mistake
from epo_lightning.physics.base import WantedThreads

if TYPE_CHECKING:
    from epo_lightning.physics.mujoco import MujocoPhysics
    from epo_lightning.physics.warp import WarpPhysics

ENGINES = ("mujoco", "warp")
KEY = "data.env.init_args"


def choose_engine(
    name: str, device: torch.device, threads: WantedThreads, contacts: int | None, constraints: int | None
) -> "Callable[..., MujocoPhysics | WarpPhysics]":
    """The engine called `name`, to be called with what both take.

    Args:
        name: One of `ENGINES`.
        device: Of `warp`.
        threads: Of `mujoco`; None: its default.
        contacts: Of `warp`, `contacts_per_world`; None: its default.
        constraints: Of `warp`, `constraints_per_world`; None: its default.

    Raises:
        Mistake: When there is no such engine, it is not installed, or an argument belongs to the other one.
    """
    if name not in ENGINES:
        raise Mistake(f"{KEY}.physics must be one of {', '.join(ENGINES)}; got {name!r}")
    room = {"contacts_per_world": contacts, "constraints_per_world": constraints}
    foreign: dict[str, Any] = room if name == "mujoco" else {"threads": threads}
    for key, value in foreign.items():
        if value is not None:
            raise Mistake(f"{KEY}.{key} must be null with {KEY}.physics {name}; got {value}")
    if name == "mujoco":
        from epo_lightning.physics.mujoco import MujocoPhysics

        return partial(MujocoPhysics, threads=threads)
    from epo_lightning.physics.warp import WarpPhysics

    return partial(WarpPhysics, device=device, contacts=contacts, constraints=constraints)
