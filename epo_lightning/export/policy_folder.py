"""One folder: the network, `policy.yaml` and `parity.json`."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.signals import check_signals
from epo_lightning.export.folder import PARITY, filled
from epo_lightning.export.formats import FILES, Runner, TorchFile, write
from epo_lightning.export.manifest import manifest, population_of
from epo_lightning.export.parity import LARGEST, Parity, compare
from epo_lightning.export.recording import Recording
from epo_lightning.learner.policy import Policy
from epo_lightning.learner.standalone import Standalone
from epo_lightning.run.code import versions
from epo_runtime.folder import MANIFEST


class Wanted(NamedTuple):
    """What is to be written.

    Attributes:
        agent: Who acts where nobody is named.
        everybody: All agents, also where they share no weights.
        format: See `formats.Format`.
        opset: Of ONNX.
    """

    agent: int
    everybody: bool
    format: str
    opset: int


def write_folder(
    out: Path,
    wanted: Wanted,
    policy: Policy,
    module: Standalone,
    env: VectorEnv,
    recording: Recording,
    provenance: Mapping[str, Any],
    more: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Parity:
    """Write the folder, and compare what is in it with what was recorded.

    Args:
        out: The folder.
        wanted: What is to be written.
        policy: The network of all agents, on the CPU.
        module: What the file holds of it.
        env: The task.
        recording: Of that policy, in that task.
        provenance: Where it comes from.
        more: Writes what else belongs into the folder that it is given, and returns what `parity.json` tells of it.

    Raises:
        Mistake: When the folder is taken, the file cannot be written, or acts unlike the policy.
    """
    spec = env.spec
    signals = check_signals(env.signals(), spec.seen, spec.act_dim)
    name = FILES[wanted.format]
    file: dict[str, Any] = {"name": name, "format": wanted.format}
    if wanted.format == "onnx":
        file["opset"] = wanted.opset
    notes = {"task": spec.name, "algorithm": str(provenance["algorithm"]), "producer": "epo-lightning"}
    with filled(out) as part:
        write(module, wanted.format, spec.seen, wanted.opset, part / name, notes)
        file["bytes"] = (part / name).stat().st_size
        population = population_of(module, policy, wanted.agent)
        text = manifest(module, file, spec, signals, population, provenance)
        (part / MANIFEST).write_text(text, encoding="utf-8")
        runners = [_runner(part / name, module, agent, wanted.agent) for agent in recording.agents]
        parity = compare(recording, runners, lambda obs: _first_actions(policy, wanted.agent, obs))
        told = {
            "of": name,
            "steps": parity.steps,
            "agents": list(recording.agents),
            "episodes": recording.episodes,
            "largest_difference": parity.largest,
            "one_at_a_time": parity.single,
            "in_a_batch": parity.batch,
            "refused_above": LARGEST,
            "versions": {**versions(), **_tool_versions(wanted.format)},
        }
        if more is not None:
            told |= more(part)
        (part / PARITY).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return parity


def _runner(path: Path, module: Standalone, agent: int, made_for: int) -> Runner:
    """The file as one agent; where it was made for that one, nobody is named."""
    chosen = None if agent == made_for else agent
    if path.suffix != ".onnx":
        return TorchFile(path, module, chosen)
    from epo_runtime import Policy as Exported

    return Exported.load(path.parent, agent=chosen)


@torch.no_grad()
def _first_actions(policy: Policy, agent: int, obs: np.ndarray) -> np.ndarray:
    """(N, A) or (N,) what the policy does with `obs` (N, O) in the first step of an episode."""
    rows = torch.from_numpy(obs)
    actions, _ = policy.act(rows, torch.full((len(rows),), agent), policy.initial_state(len(rows)))
    return np.asarray(actions.numpy())


def _tool_versions(name: str) -> dict[str, str]:
    if name != "onnx":
        return {}
    from importlib.metadata import version

    return {package: version(package) for package in ("onnx", "onnxscript", "onnxruntime")}
