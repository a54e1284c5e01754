"""A page in which the exported policy plays its task: files of this folder alone, checked before they are handed out.

The page holds recorded steps of the run; Node.js plays them with the page's own code and files, and so does every
browser that opens it. What a task adds is a `Shown`.
"""

import json
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from epo_lightning.envs.base import EnvSpec
from epo_lightning.export.folder import INDEX, PAGE, PARITY
from epo_lightning.export.formats import write_without_default
from epo_lightning.export.web_runtime import ONNX, Package, copy_package, fetched, require_node
from epo_lightning.learner.policy import Policy
from epo_lightning.learner.standalone import NEXT, Standalone
from epo_lightning.limits import Mistake

POLICY, CONTENT = "policy.onnx", "page.json"
CHECK = "check.mjs"
TASK_CODE = "task.mjs"
ACTIONS, RULES, PHYSICS = "actions", "task", "physics"
"""What a page is compared in."""
_CODE = ("page.mjs", "page.css", "policy.mjs", "onnx.mjs", CHECK)
_SECONDS = 300
_ERROR = re.compile(r"\w*Error\b.*: ")


class Shown(ABC):
    """A task on a page.

    Attributes:
        code: Its files of JavaScript; the first one is the page's `task.mjs`.
        packages: What it runs on besides ONNX.
        allowed: How far the page may be from the run.
    """

    code: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[Package, ...]] = ()
    allowed: ClassVar[Mapping[str, float]]

    @property
    @abstractmethod
    def spec(self) -> EnvSpec:
        """Of the task."""

    @abstractmethod
    def write(self, folder: Path, opset: int) -> dict[str, Any]:
        """Write its own files into `folder`; returns what the page must know of them."""

    @abstractmethod
    def content(self, policy: Policy, agents: Sequence[int]) -> dict[str, Any]:
        """What else the page must know, recorded steps of `agents` among it."""


class Page(NamedTuple):
    """What a page is made of.

    Attributes:
        shown: The task.
        policy: The network of all agents, on the CPU.
        module: What `policy.onnx` holds of it.
        agents: Whose steps are recorded, M numbers.
        opset: Of ONNX.
        provenance: Where the policy comes from.
    """

    shown: Shown
    policy: Policy
    module: Standalone
    agents: Sequence[int]
    opset: int
    provenance: Mapping[str, Any]

    @property
    def packages(self) -> tuple[Package, ...]:
        """What the page runs on."""
        return (ONNX, *self.shown.packages)

    def require(self) -> None:
        """Refuse a page before anything is computed.

        Raises:
            Mistake: When what runs it is not there.
        """
        for package in self.packages:
            fetched(package)

    def write(self, folder: Path) -> dict[str, Any]:
        """Add the page to an export that holds `policy.onnx`, and compare it with the run.

        Returns:
            What `parity.json` tells of it.

        Raises:
            Mistake: When what runs the page is not there, or acts unlike the run.
        """
        page, who, shown = folder / PAGE, self.module.who, self.shown
        page.mkdir()
        for package in self.packages:
            copy_package(package, page)
        write_without_default(folder / POLICY, None if who is None else who.name, page / POLICY)
        content = self._content() | shown.write(page, self.opset) | shown.content(self.policy, self.agents)
        (page / CONTENT).write_text(json.dumps(content), encoding="utf-8")
        assets = files("epo_lightning.export") / "web"
        for name, given in [*((name, name) for name in (*_CODE, *shown.code[1:])), (TASK_CODE, shown.code[0])]:
            (page / name).write_bytes((assets / given).read_bytes())
        (folder / INDEX).write_bytes((assets / INDEX).read_bytes())
        told = compare_page(folder, shown.allowed)
        return {
            "page": {**told, "refused_above": dict(shown.allowed), "runtime": [each.spec for each in self.packages]}
        }

    def _content(self) -> dict[str, Any]:
        spec, who = self.shown.spec, self.module.who
        return {
            "task": spec.name,
            "max_steps": spec.max_episode_steps,
            "names": [self.policy.name_of(each) for each in range(self.policy.num_agents)],
            "who": None if who is None else {"name": who.name, "values": who.values.tolist()},
            "default": self.agents[0],
            "players": list(self.agents),
            "memory": [
                {"input": port.name, "output": port.name + NEXT, "shape": list(port.shape)}
                for port in self.module.memory
            ],
            "allowed": dict(self.shown.allowed),
            "rate": None if spec.step_seconds is None else round(1 / spec.step_seconds),
            "source": {name: self.provenance[name] for name in ("algorithm", "seed", "env_steps")},
        }


def compare_page(folder: Path, allowed: Mapping[str, float]) -> dict[str, Any]:
    """Play the recorded steps of a page by its own code, in Node.js.

    Args:
        folder: The export.
        allowed: How far what may be from the run.

    Returns:
        How many there are, and how far it is from the run at most.

    Raises:
        Mistake: When that is more than is allowed.
    """
    words = [require_node(), str(folder / PAGE / CHECK)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise Mistake(f"--web: the page does not answer in {_SECONDS} s; nothing was written") from None
    if done.returncode != 0:
        why = next(
            (line for line in done.stderr.splitlines() if _ERROR.match(line)), f"node ended with {done.returncode}"
        )
        raise Mistake(f"--web: the page does not run ({why.strip()}); nothing was written")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for name, most in allowed.items():
        if not told[name] <= most:
            raise Mistake(f"--web: the page acts unlike the run: {_differ(name, told)}, more than {most:g}")
    return told


def summary(folder: Path) -> str:
    """One line on how far the page of an export is from the run."""
    told = json.loads((folder / PARITY).read_text(encoding="utf-8"))["page"]
    far = ", ".join(f"{name} {told[name]:.2g}" for name in told["refused_above"])
    versions = f" (MuJoCo {told['mujoco']}, of the run {told['mujoco_of_the_run']})" if PHYSICS in told else ""
    return f"{far} apart in {told['steps']} recorded steps{versions}"


def _differ(name: str, told: Mapping[str, Any]) -> str:
    far = f"by {told[name]:.3g}"
    if name == PHYSICS:
        return f"MuJoCo {told['mujoco']} of the page and {told['mujoco_of_the_run']} of the run move it apart {far}"
    return f"its {name} differ {far}" if name == ACTIONS else f"its {name} differs {far}"
