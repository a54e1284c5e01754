"""What anybody's checkpoint may say: this package's own classes and plain values. Everything else needs consent.

Nothing is imported to find that out: what is not in these tables is refused.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from epo_lightning.algorithm import crossover, population_based
from epo_lightning.cli.algorithm import is_known
from epo_lightning.cli.trust.embedded_config import class_specs
from epo_lightning.envs.allegro_kuka.objects import OBJECT_SETS
from epo_lightning.experience.objective import ObjectiveName

_GYMNASIUM = "epo_lightning.envs.gymnasium.GymnasiumEnv"
_WORKER = "epo_lightning.envs.worker.WorkerEnv"
_OWN: dict[str, dict[str, dict[str, str]]] = {
    "data.env": {
        "epo_lightning.envs.classic.CartpoleSwingup": {},
        "epo_lightning.envs.classic.MountainCar": {},
        "epo_lightning.envs.classic.Pendulum": {},
        "epo_lightning.envs.classic.PendulumSwingup": {},
        "epo_lightning.envs.classic.PointMaze": {},
        "epo_lightning.envs.classic.Probe": {"ending": r"terminated|truncated"},
        "epo_lightning.envs.classic.TwoGoals": {},
        "epo_lightning.envs.classic.WallMaze": {"difficulty": r"easy|medium|hard"},
        "epo_lightning.envs.bodies.AntTrap": {"threads": r"auto"},
        "epo_lightning.envs.bodies.BallInCup": {"threads": r"auto"},
        "epo_lightning.envs.bodies.KukaReach": {"threads": r"auto"},
        "epo_lightning.envs.allegro_kuka.AllegroKuka": {
            "task": r"\w+",
            "objects": "|".join(OBJECT_SETS),
            "gains": r"\w+",
            "physics": r"\w+",
            "threads": r"auto",
        },
        _GYMNASIUM: {"id": r"[\w-]+", "vectorization": r"sync|own"},
    },
    "trainer.callbacks": {
        "epo_lightning.callbacks.ElitePreservation": {},
        "epo_lightning.callbacks.GeneticEvolution": {"crossover": "|".join(get_args(crossover.CrossoverName))},
        "epo_lightning.callbacks.NaNGuard": {},
        "epo_lightning.callbacks.NetworkScaleProfiler": {},
        "epo_lightning.callbacks.PopulationBasedTraining": {
            "objective": "|".join(get_args(ObjectiveName)),
            "rule": "|".join(get_args(population_based.RuleName)),
        },
        "epo_lightning.callbacks.PopulationDiagnostics": {},
        "epo_lightning.callbacks.VideoRecorder": {},
    },
    "trainer.callbacks.rule": {
        f"{population_based.__name__}.{name}": {}
        for name, rule in vars(population_based).items()
        if isinstance(rule, type) and issubclass(rule, population_based.Rule)
    },
    "trainer.callbacks.crossover": {
        f"{crossover.__name__}.{name}": {}
        for name, operator in vars(crossover).items()
        if isinstance(operator, type) and issubclass(operator, crossover.Crossover)
    },
}
"""The classes that anybody's checkpoint may name, and which of their arguments may be texts, of which form.

`WorkerEnv` is none of them: it starts whatever interpreter and factory it is given. An id of Gymnasium with a colon
imports the module before it, and `async` starts a process for each environment.
"""
_TEXTS = {
    "model.network.activation": r"\w+",
    "model.initial.fan_in": r"\w+",
    "model.network.actor_activation": r"\w+",
    "model.network.critic_activation": r"\w+",
    "model.loss.bootstrap": r"\w+",
    "model.loss.off_policy_clip": r"\w+",
    "model.compile": r"auto|always|never",
    "model.rollout.estimator": r"\w+",
    "model.rollout.off_policy_source": r"\w+",
    "trainer.accelerator": r"auto|cpu|gpu|cuda|mps|tpu",
    "trainer.strategy": r"auto|ddp|ddp_find_unused_parameters_(true|false)",
    "trainer.devices": r"auto|-1|[1-5]?\d",
    "trainer.precision": r"(bf)?16(-mixed|-true)?|(32|64)(-true)?",
    "trainer.max_time": r"\d+(:\d\d){3}",
    "trainer.deterministic": r"warn",
    "trainer.profiler": r"simple|advanced",
}
"""Every other text that may stand in a configuration."""
_NUMBERS = ("devices", "num_nodes", "precision", "max_epochs", "max_time", "enable_progress_bar", "deterministic",
            "benchmark", "detect_anomaly", "logger")  # fmt: skip
"""Of the trainer, what may be a number or a truth value."""
_LISTS = {"data.env.privileged": r"[\w.-]+"}
"""What may be a list of texts: names that stand for nothing else. A single text could be a file's name."""
_MOST = {"trainer.num_nodes": 1, "trainer.devices": 64, "data.env.threads": 256}
"""How many processes or threads anybody's checkpoint may ask for."""
_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
_SHOWN = 60


class Finding(NamedTuple):
    """Something in a configuration that needs consent.

    Attributes:
        key: The key at which the user would have to give it, such as `data.env`.
        what: What would happen, in words.
    """

    key: str
    what: str


def findings(config: Mapping[str, Any]) -> list[Finding]:
    """Everything in `config` (see `embedded_config.parse`) that needs consent."""
    found: list[Finding] = []
    for name, value in (config.get("trainer") or {}).items():
        key = f"trainer.{name}"
        if not _NAME.fullmatch(str(name)):
            classes = _imports(value)
            found.append(Finding("trainer", f"import {classes}" if classes else f"set {shown(key)}"))
        elif key in _OWN:
            found += [each._replace(key=key) for spec in class_specs(value) for each in _of_class(spec, key)]
        elif specs := [spec for spec in class_specs(value) if isinstance(spec, dict) and "class_path" in spec]:
            found += [Finding(key, f"import {_imports(spec)}") for spec in specs]
        elif not _is_plain_setting(name, value):
            found.append(Finding(key, f"set {key} to {shown(value)}"))
    if "algorithm" in config and not is_known(config["algorithm"]):
        found.append(Finding("algorithm", f"set algorithm to {shown(config['algorithm'])}"))
    data = dict(config.get("data") or {})
    found += _of_class(data.pop("env", None), "data.env")
    for section, values in (("model", config.get("model")), ("data", data), ("checkpoint", config.get("checkpoint"))):
        found += _texts(values, section)
    found += _texts(config.get("seed_everything"), "seed_everything")
    return found


def shown(value: object) -> str:
    """A value of a stranger's file for a message: short, and without anything that a terminal would obey."""
    text = value if isinstance(value, str) and re.fullmatch(r"[\w.:/~ -]+", value, re.ASCII) else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _of_class(spec: Mapping[str, Any] | None, key: str) -> list[Finding]:
    """What a class at `key` needs: nothing when it is one of ours with plain arguments."""
    if spec is None:
        return []
    class_path, arguments = spec["class_path"], spec.get("init_args", {})
    if class_path == _WORKER and isinstance(arguments, dict):
        started = f"start {shown(arguments.get('python'))} with the factory {shown(arguments.get('factory'))}"
        return [Finding(key, started)]
    if class_path not in _OWN[key] or not set(spec) <= {"class_path", "init_args"} or not isinstance(arguments, dict):
        return [Finding(key, f"import {_imports(spec)}")]
    forms = {f"{key}.{name}": form for name, form in _OWN[key][class_path].items()}
    return list(_texts(arguments, key, forms))


def _texts(value: object, key: str, forms: Mapping[str, str] = _TEXTS) -> Iterator[Finding]:
    """Texts, names and numbers under `key` that are none of `forms`."""
    if isinstance(value, dict) and "class_path" in value and key in _OWN:
        yield from _of_class(value, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not _NAME.fullmatch(str(name)) or name in ("class_path", "init_args", "dict_kwargs"):
                what = f"import {_imports(value)}" if "class_path" in value else f"set {shown(f'{key}.{name}')}"
                yield Finding(key, what)
            else:
                yield from _texts(item, f"{key}.{name}", forms)
    elif isinstance(value, list):
        inner = {key: _LISTS[key]} if key in _LISTS else {}
        yield from (each._replace(key=key) for item in value for each in _texts(item, key, inner))
    elif not _is_plain(value, forms.get(key, r"(?!)"), _MOST.get(key, 2**63 - 1)):
        yield Finding(key, f"set {key} to {shown(value)}")


def _is_plain(value: object, form: str, most: int) -> bool:
    """Whether `value` is nothing, a truth value, a number up to `most`, or a text of this `form`."""
    if isinstance(value, str):
        return re.fullmatch(form, value, re.ASCII) is not None
    return value is None or isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value <= most)


def _is_plain_setting(name: str, value: object) -> bool:
    """Whether the trainer may be given `value` from anybody."""
    key = f"trainer.{name}"
    if isinstance(value, list) and len(value) > _MOST.get(key, 0):
        return False
    return value is None or ((isinstance(value, str) or name in _NUMBERS) and not list(_texts(value, key)))


def _imports(value: object) -> str:
    """The class paths in `value`, at any depth."""
    return ", ".join(dict.fromkeys(shown(path) for path in _class_paths(value)))


def _class_paths(value: object) -> Iterator[Any]:
    if isinstance(value, dict):
        if "class_path" in value:
            yield value["class_path"]
        for item in value.values():
            yield from _class_paths(item)
    elif isinstance(value, list):
        for item in value:
            yield from _class_paths(item)
