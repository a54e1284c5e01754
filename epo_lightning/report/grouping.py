"""Which runs belong together: the same task, the same method, other seeds; and what to call them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from epo_lightning.modules.algorithm_table import DEFAULT_ALGORITHM
from epo_lightning.report.reading import Run

_OF_A_RUN = (
    *("seed_everything", "run_dir", "ckpt_path", "config", "base", "checkpoint.", "data.eval_"),
    *("trainer.accelerator", "trainer.strategy", "trainer.logger", "trainer.enable_", "trainer.max_time"),
    *("trainer.profiler", "trainer.detect_anomaly", "trainer.deterministic", "trainer.benchmark"),
    *("GeneticEvolution.seed", "PopulationBasedTraining.seed", "ElitePreservation.save_best_master"),
    *("data.env.init_args.threads", "data.env.init_args.vectorization", "data.env.init_args.python"),
)
"""Settings that may differ between seeds of one method."""
_ENCODERS: dict[str, Any] = {"model.network.image_channels": [16, 32, 32], "model.network.image_features": 64}
_SINCE: dict[str, dict[str, Any]] = {
    "epo": {"model.optimizer.gene_rate": 1.0, "model.rollout.correlated_share": 1.0},
    "pbt": {"model.rollout.correlated_share": 1.0, **_ENCODERS},
    "sac": _ENCODERS,
    "pql": _ENCODERS,
    "cem_rl": _ENCODERS,
}
"""By algorithm, settings that older runs do not know, and what they did: younger ones that do so are their seeds."""
_GONE = {"model.network.shared_log_std": False}
"""Settings that a version had, and the value that did nothing."""
_WATCHERS = ("NaNGuard", "VideoRecorder", "NetworkScaleProfiler", "PopulationDiagnostics")
"""Callbacks that change nothing of a training."""
_SELECTS = ("GeneticEvolution", "PopulationBasedTraining")
"""Callbacks by which a population changes."""
_APART = "pbt"
"""The algorithm whose agents have networks of their own, so that none is master."""
_ENV = "data.env."
_MOST_DIFFERENCES = 3

Settings = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Runs of one method on one task, in the order of their seeds.

    Attributes:
        task: What the task is called.
        label: What the method is called; no other on this task is called so.
        settings: The flat settings that all of the runs have.
        runs: One or more.
    """

    task: str
    label: str
    settings: Settings
    runs: list[Run]

    @property
    def evolves(self) -> bool:
        """Whether agents of the population are replaced."""
        return _evolves(self.settings)

    @property
    def has_master(self) -> bool:
        """Whether agent 0 is another one than the others."""
        return str(self.settings["algorithm"]) != _APART


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs by task and method, sorted by name, each in one group; those of a study are called as its file does."""
    tasks: dict[str, list[Run]] = defaultdict(list)
    flat = {run.path: settings(run.config) for run in runs}
    for run in runs:
        tasks[run.names.task + _key(_only(flat[run.path], env=True))].append(run)
    firsts = [members[0] for members in tasks.values()]
    worlds = [_only(flat[run.path], env=True) for run in firsts]
    names = _distinct([run.names.task or _task_name(world) for run, world in zip(firsts, worlds, strict=True)], worlds)
    groups = []
    for task, members in zip(names, tasks.values(), strict=True):
        methods: dict[str, list[Run]] = defaultdict(list)
        for run in members:
            methods[run.names.method + _key(flat[run.path])].append(run)
        alike = [flat[seeds[0].path] for seeds in methods.values()]
        labels = _distinct(
            [seeds[0].names.method or _method_name(flat[seeds[0].path]) for seeds in methods.values()],
            [_only(one, env=False) for one in alike],
        )
        for label, one, seeds in zip(labels, alike, methods.values(), strict=True):
            groups.append(Group(task, label, one, sorted(seeds, key=lambda run: (str(run.seed).zfill(12), run.path))))
    return sorted(groups, key=lambda one: (one.task, one.label))


def settings(config: dict[str, Any]) -> Settings:
    """The configuration as flat names, without what may differ between seeds: `model.loss.clip_eps`.

    A callback's settings are told under its class: `GeneticEvolution.num_elites`.
    """
    flat = dict(_flatten({**config, "algorithm": config.get("algorithm") or DEFAULT_ALGORITHM}))
    flat = {**_SINCE.get(flat["algorithm"], {}), **flat}
    idle = {name for name, value in _GONE.items() if flat.get(name) == value}
    return {name: value for name, value in flat.items() if name not in idle and not name.startswith(_OF_A_RUN)}


def differences(groups: Sequence[Group]) -> dict[str, list[Any]]:
    """By name of a setting its value in each of the groups, where they are not the same; None where it has none."""
    return _differences([one.settings for one in groups])


def _differences(several: Sequence[Settings]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for one in several for name in one)
    values = {name: [one.get(name) for one in several] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def _flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  (whatever YAML holds)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif name == "trainer.callbacks":
        for callback in value if isinstance(value, list) else []:
            kind = str(callback.get("class_path", "")).rpartition(".")[2] if isinstance(callback, dict) else ""
            if kind and kind not in _WATCHERS:
                yield kind, True
                yield from _flatten(callback.get("init_args") or {}, kind)
    elif value is not None:
        yield name, value


def _evolves(one: Settings) -> bool:
    return any(one.get(kind) for kind in _SELECTS)


def _method_name(one: Settings) -> str:
    """The method in words: `ppo (1 agent)`, `sapg, 16 agents`, `cpo, 16 agents`, `epo, 16 agents`, `sac`."""
    algorithm, agents = str(one["algorithm"]).rpartition(".")[2], one.get("model.num_agents", 1)
    if algorithm == DEFAULT_ALGORITHM:
        if agents == 1:
            return "ppo (1 agent)"
        if one.get("model.loss.coupling_coefficient", 0):
            return f"{'epo + cpo' if _evolves(one) else 'cpo'}, {agents} agents"
        return f"{'epo' if _evolves(one) else 'sapg'}, {agents} agents"
    population = f", {agents} agents" if agents != 1 else ""
    if algorithm == _APART:
        return f"{algorithm}{population}{'' if _evolves(one) else ' side by side'}"
    return f"{algorithm}{population}{' that evolve' if _evolves(one) else ''}"


def _task_name(one: Settings) -> str:
    """The class of the environment, and which of its tasks."""
    kind = str(one.get(f"{_ENV}class_path", "unknown task")).rpartition(".")[2]
    of_gymnasium, task = one.get(f"{_ENV}init_args.id"), one.get(f"{_ENV}init_args.task")
    return str(of_gymnasium) if of_gymnasium else f"{kind}/{task}" if task else kind


def _distinct(names: Sequence[str], several: Sequence[Settings]) -> list[str]:
    """Names that differ: who shares one gets the settings in which those who share it differ."""
    distinct = list(names)
    for name in set(names):
        places = [place for place, other in enumerate(names) if other == name]
        for key, values in list(_differences([several[place] for place in places]).items())[:_MOST_DIFFERENCES]:
            for place, value in zip(places, values, strict=True):
                distinct[place] += f", {_short(key)} {_told(value)}"
    for place, name in enumerate(distinct):
        if name in distinct[:place]:
            distinct[place] = f"{name} #{distinct[:place].count(name) + 1}"
    return distinct


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def _told(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _only(one: Settings, *, env: bool) -> Settings:
    return {name: value for name, value in one.items() if name.startswith(_ENV) == env}


def _key(one: Settings) -> str:
    return repr(sorted((name, repr(value)) for name, value in one.items()))
