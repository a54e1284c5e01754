"""`policy.yaml`: what the numbers that go in and come out mean, and where the policy comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from epo_lightning import __version__
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.learner.policy import Policy
from epo_lightning.learner.standalone import ACTION, GENE, NEXT, OBSERVATION, Standalone
from epo_runtime.folder import FORMAT, LAYOUT

_HEAD = """\
# A policy of epo-lightning {version}. The file takes raw observations and gives actions as the task takes them:
# normalise nothing before it, clip nothing after it. How to use it: docs/export.md of epo-lightning.
"""


def manifest(
    module: Standalone,
    file: Mapping[str, Any],
    spec: EnvSpec,
    signals: Signals,
    population: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> str:
    """The text of `policy.yaml`.

    Args:
        module: What the file holds.
        file: Its name, format and opset.
        spec: Of the task.
        signals: Of the task.
        population: See `population_of`.
        provenance: Where it comes from.
    """
    seconds = spec.step_seconds
    content = {
        "format": FORMAT,
        "layout": LAYOUT,
        "task": spec.name,
        "file": dict(file),
        "observation": {
            "input": OBSERVATION,
            "size": spec.seen,
            "dtype": "float32",
            "entries": [_entry(each) for each in signals.observation],
            "history": 1,
            "scaling": _scaling(module),
        },
        "action": _action(spec, signals),
        "control": {"step_seconds": seconds, "rate_hz": None if seconds is None else round(1 / seconds, 6)},
        "memory": [
            {"input": port.name, "output": port.name + NEXT, "shape": list(port.shape), "starts_at": 0}
            for port in module.memory
        ],
        "population": dict(population),
        "provenance": dict(provenance),
    }
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return _HEAD.format(version=__version__) + text


def population_of(module: Standalone, policy: Policy, agent: int) -> dict[str, Any]:
    """Who is in the file, and how to choose.

    Args:
        module: What the file holds.
        policy: The network of all agents.
        agent: Who acts where nobody is named.
    """
    who = module.who
    told: dict[str, Any] = {
        "input": None if who is None else who.name,
        "default": agent,
        "master": policy.champion,
        "agents": [policy.name_of(each) for each in range(policy.num_agents)],
    }
    if who is not None and who.name == GENE:
        told["gene_size"] = who.values.shape[1]
        told["genes"] = [short(gene) for gene in who.values.numpy()]
    return told


def _action(spec: EnvSpec, signals: Signals) -> dict[str, Any]:
    entries = [_entry(each) for each in signals.action]
    if spec.discrete:
        return {"output": ACTION, "kind": "choice", "size": spec.act_dim, "dtype": "int64", "entries": entries}
    limits = {"low": -1.0, "high": 1.0, "clipped": "in the file"}
    return {"output": ACTION, "kind": "numbers", "size": spec.act_dim, "dtype": "float32", **limits, "entries": entries}


def _entry(signal: Signal) -> dict[str, Any]:
    known: dict[str, Any] = {"unit": signal.unit, "meaning": signal.meaning}
    known |= {"low": short(signal.low), "high": short(signal.high)}
    return {"name": signal.name, "size": signal.size, **{key: told for key, told in known.items() if told}}


def _scaling(module: Standalone) -> dict[str, Any]:
    """What the file does first; the numbers are for people who compare sensors with them."""
    if not hasattr(module, "mean"):
        return {"where": "in the file"}
    told: dict[str, Any] = {"where": "in the file", "formula": "clip((x - mean) / std, -clip, clip)"}
    told["clip"] = module.clip
    if module.mean.dim() == 1:
        told["mean"], told["std"] = short(module.mean.numpy()), short((1 / module.scale).numpy())
    return told


def short(values: Sequence[float] | np.ndarray) -> list[float]:
    """Numbers of float32 with as few digits as tell them exactly."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]
