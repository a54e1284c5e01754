"""The page of a task between walls, in which the exported policy plays.

Shape legend: N rows, T steps, M agents that play side by side.

The task's step is a file of ONNX, too, so that nothing of it is written twice.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from epo_lightning.envs.base import EnvSpec, VectorEnv
from epo_lightning.envs.classic.arena import Arena
from epo_lightning.envs.classic.drawing import BODY, SOLID, TRAIL, Sketch
from epo_lightning.export.formats import write_rows
from epo_lightning.export.page import ACTIONS, RULES, Shown
from epo_lightning.export.parity import LARGEST
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake

STEPS = 100
"""T that are recorded of every agent."""
STARTS = 256
"""Of episodes, drawn by the task itself."""
FILE = "task.onnx"
_STATE, _ACTION = "state", "action"
_OUTPUTS = ["next", "reward", "terminated", "success"]


class _Step(nn.Module):
    """A step of the task: positions and actions, (N, 2) each, become those after it, and what it was worth, (N,)."""

    def __init__(self, env: Arena) -> None:
        super().__init__()
        self.env = env

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, ...]:
        moved = self.env.after(state, action)
        return moved.state, moved.reward, moved.terminated.float(), moved.successes


@torch.no_grad()
def rehearse(env: VectorEnv, policy: Policy, agents: Sequence[int], steps: int) -> dict[str, Any]:
    """Let agents play, and tell every step: lists of T lists of M.

    Args:
        env: M environments on the CPU.
        policy: The network, on the CPU.
        agents: Who plays in which.
        steps: T.
    """
    acting, state, obs = torch.tensor(agents), policy.initial_state(len(agents)), env.reset()
    told: dict[str, Any] = {name: [] for name in ("state", "action", *_OUTPUTS, "done")}
    for _ in range(steps):
        actions, state = policy.act(obs, acting, state)
        result = env.step(actions)
        assert result.final_obs is not None
        done = result.terminated | result.truncated
        row = (obs, actions, result.final_obs, result.reward, result.terminated, result.successes, done)
        for name, values in zip(told, row, strict=True):
            told[name].append(values.to(torch.float64).tolist())
        state = state.masked_fill(done[:, None], 0.0)
        obs = result.obs
    return {"agents": list(agents), **told}


class ArenaShown(Shown):
    """A task between walls on a page.

    Args:
        env: The task, one environment for each agent that plays, on the CPU.

    Raises:
        Mistake: When it observes something else than its position.
    """

    code = ("arena.mjs",)
    allowed: ClassVar[Mapping[str, float]] = {ACTIONS: LARGEST, RULES: LARGEST}

    def __init__(self, env: Arena) -> None:
        if not torch.equal(env.reset(), env.state_dict()["state"]):
            raise Mistake(f"--web: there is no page for {env.spec.name}: it observes something else than its position")
        self.env = env

    @property
    def spec(self) -> EnvSpec:
        """See `Shown`."""
        return self.env.spec

    def write(self, folder: Path, opset: int) -> dict[str, Any]:
        """See `Shown`."""
        write_task(self.env, opset, folder / FILE)
        return {}

    def content(self, policy: Policy, agents: Sequence[int]) -> dict[str, Any]:
        """See `Shown`."""
        env = self.env
        return {"place": place(env), "starts": starts(env), "rehearsal": rehearse(env, policy, agents, STEPS)}


def write_task(env: Arena, opset: int, path: Path) -> None:
    """Write the step of a task as ONNX."""
    example = (torch.zeros(3, 2), torch.zeros(3, 2))  # neither as many rows as columns nor one
    write_rows(_Step(env), example, [_STATE, _ACTION], _OUTPUTS, opset, path)


def place(env: Arena) -> dict[str, Any]:
    """What never moves, and what the point looks like."""
    sketch = Sketch()
    env.draw_place(sketch)
    colours = {"solid": list(SOLID), "body": list(BODY), "trail": list(TRAIL)}
    extent = {"low": env.low.tolist(), "high": env.high.tolist()}
    return {**extent, "shapes": sketch.shapes, "radius": env.point_radius, **colours}


def starts(env: VectorEnv) -> list[list[float]]:
    """Where `STARTS` episodes begin, drawn by the task itself."""
    rows: list[list[float]] = []
    while len(rows) < STARTS:
        rows += env.reset().tolist()
    return rows[:STARTS]
