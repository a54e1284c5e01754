"""The physics of all scenes on Warp against MuJoCo on the CPU: from the same state, under the same targets.

Both solvers run to their ends. Objects lie on the table, and random forces push them, for five control steps.
"""

import time
from typing import Any, NamedTuple

import torch

from benchmarks.gpu_check.stage import Report, Setting
from epo_lightning.cli.doctor.finding import one_line
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.physics.mujoco import MujocoPhysics

POSITIONS, REST = 1e-5, 1e-3
"""How far joints and points (rad, m) may be apart afterwards, and everything else (rad/s, m/s, quaternions)."""
KEPT = ("qpos", "qvel", "qacc_warmstart", "mocap_pos", "mocap_quat")


class Apart(NamedTuple):
    """How far the engines are apart after five steps.

    Attributes:
        errors: Largest difference of each field of `PhysicsState`.
        contacts: Of an environment, on average, at the start: nothing is proved in the air.
        moved: Farthest that a joint went, rad.
    """

    errors: dict[str, float]
    contacts: float
    moved: float

    def too_large(self) -> list[str]:
        """The fields that differ by more than they may."""
        return [
            name for name, error in self.errors.items() if not error < (POSITIONS if name.endswith("_pos") else REST)
        ]


def pair(
    task: str, device: torch.device, num_envs: int, seed: int = 0, **kwargs: Any
) -> tuple[AllegroKuka, AllegroKuka]:
    """The task on Warp and on MuJoCo; both solvers go to the end, which they otherwise stop before, each elsewhere."""
    import warp as wp

    from epo_lightning.physics.warp import WarpPhysics

    ours = AllegroKuka(num_envs, device, seed, task=task, physics="warp", **kwargs)
    theirs = AllegroKuka(num_envs, torch.device("cpu"), seed, task=task, **kwargs)
    assert isinstance(ours.physics, WarpPhysics)
    assert isinstance(theirs.physics, MujocoPhysics)
    wp.to_torch(ours.physics._worlds.model.opt.tolerance).fill_(1e-9)
    theirs.physics.batch.expand("opt.tolerance")[:] = 1e-12
    theirs.physics.batch.expand("opt.iterations")[:] = 100
    return ours, theirs


def apart(task: str, device: torch.device, num_envs: int = 64) -> Apart:
    """Run `task` on Warp's `device` and on the CPU's engine."""
    envs = pair(task, device, num_envs)
    ours, theirs = envs[0].physics, envs[1].physics
    assert isinstance(theirs, MujocoPhysics)
    envs[1].reset()
    generator = torch.Generator().manual_seed(1)
    hold = theirs.state.joint_pos.clone()

    def targets() -> torch.Tensor:
        return hold + 0.1 * torch.randn(hold.shape, generator=generator)

    for _ in range(50):  # until most objects lie on the table
        theirs.step(targets())
    for rows in (theirs._qpos, theirs._qvel):
        rows[:] = rows.astype("float32")
    ours.load_state_dict({name: torch.tensor(theirs.batch.bind(name)).float() for name in KEPT})
    contacts, start = theirs.batch.bind("ncon").sum() / num_envs, theirs.state.joint_pos.clone()
    for _ in range(5):
        action, force = targets(), 0.3 * torch.randn(num_envs, 3, generator=generator)
        ours.step(action.to(device), force.to(device))
        theirs.step(action, force)
    errors = {
        name: (own.cpu() - other).abs().max().item() if own.numel() else 0.0
        for name, own, other in zip(theirs.state._fields, ours.state, theirs.state, strict=True)
    }
    moved = (theirs.state.joint_pos - start).abs().max().item()
    for env in envs:
        env.close()
    return Apart(errors, float(contacts), moved)


def find_out(setting: Setting, report: Report) -> None:
    """One task after another; the first of one and of two arms compile the kernels."""
    torch.set_num_threads(1)
    for task in setting.sizes.tasks:
        start = time.monotonic()
        try:
            found = apart(task, setting.device, setting.sizes.parity_envs)
        except Exception as error:
            report.fault(f"{task}: {type(error).__name__}: {one_line(error)}")
            continue
        report.row("tasks", task=task, **found._asdict(), seconds=round(time.monotonic() - start, 1))
        for name in found.too_large():
            report.fault(f"{task}: {name} is {found.errors[name]:.2g} off MuJoCo's")
