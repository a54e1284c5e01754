"""Short names of this package's own classes: `WallMaze` in a file or flag is exactly ours, and is written in full."""

from collections.abc import Iterator, Mapping
from typing import Any

from epo_lightning.documents.nearest import hint
from epo_lightning.limits import Mistake

ENVIRONMENTS = {
    "CartpoleSwingup": "epo_lightning.envs.classic.CartpoleSwingup",
    "MountainCar": "epo_lightning.envs.classic.MountainCar",
    "Pendulum": "epo_lightning.envs.classic.Pendulum",
    "PendulumSwingup": "epo_lightning.envs.classic.PendulumSwingup",
    "PointMaze": "epo_lightning.envs.classic.PointMaze",
    "Probe": "epo_lightning.envs.classic.Probe",
    "TwoGoals": "epo_lightning.envs.classic.TwoGoals",
    "WallMaze": "epo_lightning.envs.classic.WallMaze",
    "AntTrap": "epo_lightning.envs.bodies.AntTrap",
    "BallInCup": "epo_lightning.envs.bodies.BallInCup",
    "KukaReach": "epo_lightning.envs.bodies.KukaReach",
    "AllegroKuka": "epo_lightning.envs.allegro_kuka.AllegroKuka",
    "GymnasiumEnv": "epo_lightning.envs.gymnasium.GymnasiumEnv",
    "WorkerEnv": "epo_lightning.envs.worker.WorkerEnv",
}
CALLBACKS = {
    name: f"epo_lightning.callbacks.{name}"
    for name in (
        "GeneticEvolution",
        "ElitePreservation",
        "PopulationBasedTraining",
        "PopulationDiagnostics",
        "NaNGuard",
        "NetworkScaleProfiler",
        "VideoRecorder",
    )
}
CROSSOVERS = {name: f"epo_lightning.algorithm.crossover.{name}" for name in ("Average", "Uniform", "KPoint")}
RULES = {name: f"epo_lightning.algorithm.population_based.{name}" for name in ("DexPBT", "Margins")}
SHORT_NAMES = {"crossover": CROSSOVERS, "rule": RULES}
"""By the argument that takes them: class paths by short name."""
_TAKES = {CALLBACKS["GeneticEvolution"]: "crossover", CALLBACKS["PopulationBasedTraining"]: "rule"}
"""Of a class of ours the argument that takes a class."""
OWN: dict[str, dict[str, str]] = {"data.env": ENVIRONMENTS, "trainer.callbacks": CALLBACKS}
"""Class paths by short name, of every key that takes them."""


def in_full(key: str, value: Any) -> Any:
    """What a key that takes classes holds, with our short names written in full; everything else as it is.

    Args:
        key: One of `OWN`.
        value: A name, a mapping with `class_path`, or a list of both.
    """
    if isinstance(value, list):
        return [in_full(key, each) for each in value]
    if isinstance(value, str):
        return OWN[key].get(value, value)
    if not isinstance(value, Mapping):
        return value
    full = dict(value)
    if isinstance(full.get("class_path"), str):
        full["class_path"] = OWN[key].get(full["class_path"], full["class_path"])
    name = _TAKES.get(full["class_path"]) if isinstance(full.get("class_path"), str) else None
    if name is not None and isinstance(full.get("init_args"), Mapping) and name in full["init_args"]:
        full["init_args"] = {**full["init_args"], name: _class(full["init_args"][name], SHORT_NAMES[name])}
    return full


def _class(value: Any, known: Mapping[str, str]) -> Any:
    """The class that an argument names, by a short name or in full."""
    if isinstance(value, str):
        return {"class_path": known[value]} if value in known else value
    if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        return {**value, "class_path": known.get(value["class_path"], value["class_path"])}
    return value


def expand(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with our short names written in full."""
    expanded = dict(config)
    for key in OWN:
        section, _, name = key.partition(".")
        values = expanded.get(section)
        if isinstance(values, Mapping):
            places = [each for each in values if each in (name, f"{name}+")]
            expanded[section] = {**values, **{each: in_full(key, values[each]) for each in places}}
    return expanded


def require_known(key: str, value: Any, others: Mapping[str, str]) -> None:
    """Refuse a short name that is nobody's.

    Args:
        key: One of `OWN`.
        value: What it holds, see `in_full`.
        others: Further classes by short name that the key takes.

    Raises:
        Mistake: Naming ours, and the nearest.
    """
    for name in _names(value):
        if "." not in name and name not in others:
            ours = ", ".join(OWN[key])
            raise Mistake(
                f"{key}: there is no class {name}{hint(name, [*OWN[key], *others])}; this package has {ours}; another"
                " one is named by its class path, module.Class"
            )


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        yield value["class_path"]
