"""What is searched for: parameters and their ranges, by which metric, for how many trials."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from epo_lightning.documents.keys import nested, require_known
from epo_lightning.limits import Mistake

_KEYS = ("parameters", "metric", "value", "direction", "trials", "pruner", "seed")
_PARAMETER = ("low", "high", "log", "step", "type", "values")
METRIC = "charts/episodic_return"


@dataclass(frozen=True)
class Parameter:
    """One key that is searched.

    Attributes:
        key: Of the configuration, with dots.
        values: To choose from; empty for a number.
        low: Smallest number.
        high: Largest number.
        log: Equal ratios are equally likely.
        step: Numbers are `low` and multiples of it above; None: any.
        is_int: Whole numbers.
    """

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    is_int: bool = False

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that show whether the key is one."""
        return self.values or (self.low, self.high)


@dataclass(frozen=True)
class Space:
    """A search.

    Attributes:
        parameters: One or more.
        metric: A column of `metrics.csv`.
        value: `last`, or `tail`: the mean of the last tenth of a run's iterations.
        maximize: The larger the better.
        trials: How many settings are tried.
        pruner: Who ends a trial early: `median`, `asha` or `none`.
        seed: Of the search itself.
    """

    parameters: tuple[Parameter, ...]
    metric: str = METRIC
    value: str = "tail"
    maximize: bool = True
    trials: int = 20
    pruner: str = "median"
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """What trials must have in common to be compared."""
        whole = asdict(self)
        return {key: whole[key] for key in ("parameters", "metric", "value", "maximize")}


def read_space(where: str, given: object) -> Space:
    """Read and check the section `search`.

    Raises:
        Mistake: One line that names file, key and remedy.
    """
    if not isinstance(given, Mapping):
        raise Mistake(f"{where} must hold parameters, metric, trials, ...; got {given!r}")
    require_known(where, given, _KEYS)
    parameters = given.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise Mistake(f"{where}.parameters must be keys with ranges, such as model.num_agents: {{low: 4, high: 32}}")
    nested(parameters, lambda _: f"{where}.parameters: ")
    metric, trials, seed = given.get("metric", METRIC), given.get("trials", 20), given.get("seed", 0)
    if not isinstance(metric, str) or not metric:
        raise Mistake(f"{where}.metric must be a column of metrics.csv, such as {METRIC}; got {metric!r}")
    if not _is_whole(trials) or trials < 1:
        raise Mistake(f"{where}.trials must be a number, at least 1; got {trials!r}")
    if not _is_whole(seed) or not 0 <= seed < 2**31:
        raise Mistake(f"{where}.seed must be a number of 0 or more; got {seed!r}")
    return Space(
        tuple(_parameter(f"{where}.parameters.{key}", key, ranges) for key, ranges in parameters.items()),
        metric,
        _choice(f"{where}.value", given.get("value", "tail"), ("last", "tail")),
        _choice(f"{where}.direction", given.get("direction", "maximize"), ("maximize", "minimize")) == "maximize",
        trials,
        _choice(f"{where}.pruner", given.get("pruner", "median"), ("median", "asha", "none")),
        seed,
    )


def _parameter(where: str, key: str, given: object) -> Parameter:
    if key.split(".")[0] in (
        "seed_everything",
        "run_dir",
        "ckpt_path",
        "pretrained",
        "resume",
        "trust",
        "base",
        "config",
    ):
        raise Mistake(f"{where} cannot be searched: the study gives seeds and folders, common the configuration")
    if isinstance(given, list):
        given = {"values": given}
    if not isinstance(given, Mapping):
        raise Mistake(f"{where} must be {{low: ..., high: ...}} or a list of values; got {given!r}")
    require_known(where, given, _PARAMETER)
    if "values" in given:
        values = given["values"]
        if len(given) > 1 or not isinstance(values, list) or not values:
            raise Mistake(f"{where}.values must be a list, and stand alone; got {dict(given)!r}")
        if twice := [
            value for place, value in enumerate(values) if json.dumps(value) in map(json.dumps, values[:place])
        ]:
            raise Mistake(f"{where}.values has {twice[0]!r} twice; leave one out")
        return Parameter(key, tuple(values))
    low, high = (_number(f"{where}.{name}", given.get(name)) for name in ("low", "high"))
    step = None if given.get("step") is None else _number(f"{where}.step", given["step"])
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise Mistake(f"{where}.log must be true or false; got {log!r}")
    are_whole = all(_is_whole(value) for value in (low, high, *([] if step is None else [step])))
    kind = _choice(f"{where}.type", given.get("type", "int" if are_whole else "float"), ("int", "float"))
    if kind == "int" and not are_whole:
        raise Mistake(f"{where}: type int needs whole numbers; got low {low}, high {high}, step {step}")
    if low >= high:
        raise Mistake(f"{where}: low must be less than high; got {low} and {high}")
    if log and low <= 0:
        raise Mistake(f"{where}: with log, low must be greater than 0; got {low}")
    if step is not None and (log or step <= 0 or step > high - low):
        raise Mistake(f"{where}.step must be greater than 0, within the range, and without log; got {step}")
    return Parameter(key, (), low, high, log, step, kind == "int")


def _choice(where: str, given: object, known: tuple[str, ...]) -> str:
    if not isinstance(given, str) or given not in known:
        raise Mistake(f"{where} must be one of {', '.join(known)}; got {given!r}")
    return given


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(where: str, given: object) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or not math.isfinite(given):
        raise Mistake(f"{where} must be a number; got {'nothing' if given is None else repr(given)}")
    return given
