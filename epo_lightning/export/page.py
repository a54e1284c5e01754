"""A page in which the exported policy plays its task: files of this folder alone, checked before they are handed out.

Shape legend: N rows, T steps, M agents that play side by side.

The task's step is a file of ONNX, too, so that nothing of it is written twice. The page holds recorded steps of the
run; Node.js plays them with the page's own code and files, and so does every browser that opens it.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.classic.arena import Arena
from epo_lightning.envs.classic.drawing import BODY, SOLID, TRAIL, Sketch
from epo_lightning.export.folder import INDEX, PAGE
from epo_lightning.export.formats import write_rows, write_without_default
from epo_lightning.export.parity import LARGEST
from epo_lightning.export.web_runtime import PACKAGE, copy_runtime, require_node
from epo_lightning.learner.policy import Policy
from epo_lightning.learner.standalone import NEXT, Standalone
from epo_lightning.limits import Mistake

STEPS = 100
"""T that are recorded of every agent."""
STARTS = 256
"""Of episodes, drawn by the task itself."""
POLICY, TASK, CONTENT = "policy.onnx", "task.onnx", "page.json"
CHECK = "check.mjs"
_CODE = ("page.mjs", "page.css", "player.mjs", CHECK)
_STATE, _ACTION = "state", "action"
_OUTPUTS = ["next", "reward", "terminated", "success"]
_SECONDS = 300


class _Step(nn.Module):
    """A step of the task: positions and actions, (N, 2) each, become those after it, and what it was worth, (N,)."""

    def __init__(self, env: Arena) -> None:
        super().__init__()
        self.env = env

    def forward(self, state: Tensor, action: Tensor) -> tuple[Tensor, ...]:
        moved = self.env.after(state, action)
        return moved.state, moved.reward, moved.terminated.float(), moved.successes


def require_page(env: VectorEnv) -> Arena:
    """The task, where a page can show it.

    Raises:
        Mistake: When it cannot.
    """
    if not isinstance(env, Arena):
        raise Mistake(
            f"--web: there is no page for {env.spec.name}, only for points between walls (WallMaze, TwoGoals,"
            " PointMaze and subclasses of Arena): its step cannot be carried over exactly"
        )
    if not torch.equal(env.reset(), env.state_dict()["state"]):
        raise Mistake(f"--web: there is no page for {env.spec.name}: it observes something else than its position")
    return env


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


class Page(NamedTuple):
    """What a page is made of.

    Attributes:
        env: The task, one environment for each of `agents`, on the CPU.
        policy: The network of all agents, on the CPU.
        module: What `policy.onnx` holds of it.
        agents: Whose steps are recorded, M numbers.
        opset: Of ONNX.
        provenance: Where the policy comes from.
    """

    env: Arena
    policy: Policy
    module: Standalone
    agents: Sequence[int]
    opset: int
    provenance: Mapping[str, Any]

    def write(self, folder: Path) -> dict[str, Any]:
        """Add the page to an export that holds `policy.onnx`, and compare it with the run.

        Returns:
            What `parity.json` tells of it.

        Raises:
            Mistake: When what runs the page is not there, or acts unlike the run.
        """
        page, who = folder / PAGE, self.module.who
        page.mkdir()
        copy_runtime(page)
        write_without_default(folder / POLICY, None if who is None else who.name, page / POLICY)
        self.write_task(self.env, self.opset, page / TASK)
        (page / CONTENT).write_text(json.dumps(self._content()), encoding="utf-8")
        assets = files("epo_lightning.export") / "web"
        for name in _CODE:
            (page / name).write_bytes((assets / name).read_bytes())
        (folder / INDEX).write_bytes((assets / INDEX).read_bytes())
        return {"page": {**compare_page(folder), "refused_above": LARGEST, "runtime": PACKAGE}}

    @staticmethod
    def write_task(env: Arena, opset: int, path: Path) -> None:
        """Write the step of a task as ONNX."""
        example = (torch.zeros(3, 2), torch.zeros(3, 2))  # neither as many rows as columns nor one
        write_rows(_Step(env), example, [_STATE, _ACTION], _OUTPUTS, opset, path)

    @staticmethod
    def place(env: Arena) -> dict[str, Any]:
        """What never moves, and what the point looks like."""
        sketch = Sketch()
        env.draw_place(sketch)
        colours = {"solid": list(SOLID), "body": list(BODY), "trail": list(TRAIL)}
        extent = {"low": env.low.tolist(), "high": env.high.tolist()}
        return {**extent, "shapes": sketch.shapes, "radius": env.point_radius, **colours}

    @staticmethod
    def starts(env: VectorEnv) -> list[list[float]]:
        """Where `STARTS` episodes begin, drawn by the task itself."""
        rows: list[list[float]] = []
        while len(rows) < STARTS:
            rows += env.reset().tolist()
        return rows[:STARTS]

    def _content(self) -> dict[str, Any]:
        env, who = self.env, self.module.who
        return {
            "task": env.spec.name,
            "max_steps": env.spec.max_episode_steps,
            "names": [self.policy.name_of(each) for each in range(self.policy.num_agents)],
            "who": None if who is None else {"name": who.name, "values": who.values.tolist()},
            "default": self.agents[0],
            "memory": [
                {"input": port.name, "output": port.name + NEXT, "shape": list(port.shape)}
                for port in self.module.memory
            ],
            "place": self.place(env),
            "starts": self.starts(env),
            "rehearsal": rehearse(env, self.policy, self.agents, STEPS),
            "allowed": LARGEST,
            "source": {name: self.provenance[name] for name in ("algorithm", "seed", "env_steps")},
        }


def compare_page(folder: Path) -> dict[str, Any]:
    """Play the recorded steps of a page by its own code, in Node.js.

    Returns:
        How many there are, and how far actions and steps of the task differ at most.

    Raises:
        Mistake: When they differ by more than `LARGEST`.
    """
    words = [require_node(), str(folder / PAGE / CHECK)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise Mistake(f"--web: the page does not answer in {_SECONDS} s; nothing was written") from None
    if done.returncode != 0:
        why = next((line for line in done.stderr.splitlines() if "Error" in line), f"node ended with {done.returncode}")
        raise Mistake(f"--web: the page does not run ({why.strip()}); nothing was written")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    far = max(told["actions"], told["task"])
    if not far <= LARGEST:
        raise Mistake(f"--web: the page acts unlike the run: it differs by {far:.3g}, more than {LARGEST:g}")
    return told
