"""What run folders hold, also those of a run that is still going on or was killed.

A table or a list of lines that is being written may end in the middle of one: only lines that end count.
"""

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from epo_lightning.limits import Mistake
from epo_lightning.report.evaluation import LARGEST, Evaluation, read_evaluations
from epo_lightning.report.statistics import Array
from epo_lightning.report.study_names import FILE, StudyNames, read_names
from epo_lightning.run.code import Code, sessions_of
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.record import beginning_of

STEPS, RATE = "charts/env_steps", "charts/sps"
RETURN, SUCCESSES, COVERAGE = "charts/episodic_return", "charts/episodic_successes", "charts/episodic_coverage"
BEST, SPREAD, OFF_POLICY = "population/return_best", "population/fitness_spread", "losses/off_policy_ess"
OF_KINDS = {
    "mean of the distribution": "population/fitness_mean",
    "members that learnt by gradient": "population/fitness_gradient",
    "members as they were drawn": "population/fitness_sampled",
}
"""Fitness of a generation of CEM-RL, by kind of member."""
SIGMA, GRADIENT_PARENTS = "population/sigma", "population/gradient_parents"
_METRICS = (RATE, RETURN, SUCCESSES, COVERAGE, BEST, SPREAD, OFF_POLICY, *OF_KINDS.values(), SIGMA, GRADIENT_PARENTS)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built


class Unusable(Exception):
    """A run that cannot be compared: which file, and why."""


@dataclass(frozen=True)
class Run:
    """One run, from where its returns are scores.

    Attributes:
        path: Its folder.
        config: `config.yaml`.
        env_steps: (T,) of the iterations that count.
        seconds: (T,) spent in iterations until then; NaN where the run does not tell.
        metrics: (T,) of each metric that the run has; NaN where it is not known.
        lineage: The generations.
        evaluations: By name of the file.
        names: What a study calls its task and method.
        code: By which it was begun, and then continued; empty where nothing tells.
        covers: Whether the run tells by `charts/episodic_coverage` where its returns begin to be scores.
    """

    path: Path
    config: dict[str, Any]
    env_steps: Array
    seconds: Array
    metrics: dict[str, Array]
    lineage: list[dict[str, Any]] = field(default_factory=list)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    names: StudyNames = field(default_factory=StudyNames)
    code: tuple[Code, ...] = ()
    covers: bool = True

    @property
    def succeeds(self) -> bool:
        """Whether an episode ever had a success."""
        return bool((self.metrics.get(SUCCESSES, np.zeros(1)) > 0).any())

    @property
    def seed(self) -> object:
        """As the configuration has it."""
        return self.config.get("seed_everything", 0)


def find_runs(places: Sequence[Path]) -> list[Path]:
    """The run folders among `places` and below them, each once.

    Raises:
        Mistake: When a place is not a folder, or there is no run below any.
    """
    found: dict[Path, Path] = {}
    for place in places:
        if not place.is_dir():
            raise Mistake(f"report: {place} is not a folder; give run folders, or folders that hold some")
        for folder, below, files in os.walk(place):
            if {"metrics.csv", "config.yaml"} & set(files):
                found.setdefault(Path(folder).resolve(), Path(folder))
            if "metrics.csv" in files:
                below.clear()
            below.sort()
    if not found:
        raise Mistake(f"report: there is no run (a folder with metrics.csv) in {', '.join(map(str, places))}")
    return list(found.values())


def idle_methods(places: Sequence[Path], runs: Sequence[Path]) -> list[Path]:
    """Folders among `places` and below them in which a study keeps a method, but no run of `runs` lies."""
    begun = {run.resolve().parent for run in runs}
    found: dict[Path, None] = {}
    for place in places:
        for folder, below, files in os.walk(place):
            if FILE in files and Path(folder).resolve() not in begun:
                found.setdefault(Path(folder))
            if "metrics.csv" in files:
                below.clear()
            below.sort()
    return list(found)


def columns(path: Path) -> list[str]:
    """What the table of a run is called by, column by column; nothing where it cannot be read."""
    try:
        with RunFolder(path).metrics.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])
    except (OSError, csv.Error, UnicodeDecodeError):
        return []


def read_run(path: Path, more: Sequence[str] = ()) -> Run:
    """Everything that a report needs of one run, and the metrics `more` as far as it has them.

    Raises:
        Unusable: When there is nothing to compare, naming the file.
    """
    folder = RunFolder(path)
    config = _read_config(folder.config)
    if (policy := beginning_of(folder.record)) is not None:
        config["begins_with"] = policy  # such a run is no seed of one that learned everything itself
    found = read_columns(folder.metrics, {*_METRICS, *more}.__contains__)
    steps, rate = found[STEPS], found.get(RATE, np.full(len(found[STEPS]), np.nan))
    for name in {STEPS, RATE}.difference(more):  # they are the axes
        found.pop(name, None)
    seconds = np.cumsum(np.diff(steps, prepend=0) / np.where(rate > 0, rate, np.nan))
    returns, coverage = found.get(RETURN, np.full(len(steps), np.nan)), found.get(COVERAGE)
    known = ~np.isnan(returns)
    if RETURN not in found:
        raise Unusable(f"{folder.metrics}: no column {RETURN}, which every comparison is of")
    if not known.any():
        raise Unusable(f"{folder.metrics}: no return in {RETURN} yet")
    covered = known if coverage is None else known & (coverage >= 1)
    if not covered.any():
        raise Unusable(f"{folder.metrics}: {COVERAGE} has not reached 1 yet, so no return is a score")
    start = int(covered.argmax())
    for name in {RETURN, SUCCESSES} & found.keys():
        found[name][~covered] = np.nan  # a resumed run whose episodes began anew has short ones first, too
    return Run(
        path,
        config,
        steps[start:],
        seconds[start:],
        {name: values[start:] for name, values in found.items()},
        list(read_lineage(folder.lineage)),
        {evaluation.file: evaluation for evaluation in read_evaluations(folder.last.parent)},
        read_names(path),
        sessions_of(folder.record),
        coverage is not None,
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_bytes(), Loader=_LOADER)  # a safe one
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unusable(f"{path}: not YAML") from error
    if not isinstance(content, dict):
        raise Unusable(f"{path}: {'empty' if content is None else 'not a configuration'}")
    return content


def read_columns(path: Path, is_wanted: Callable[[str], bool] = bool) -> dict[str, Array]:
    """(T,) of each column of `metrics.csv`, by env steps; of two rows at the same the later counts.

    Args:
        path: The file.
        is_wanted: Of a column's name; by default all are.

    Raises:
        Unusable: When there is no iteration in it.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(line for line in file if line.endswith("\n"))
            header = next(reader, [])
            if not header:
                raise Unusable(f"{path}: empty")
            if STEPS not in header:
                raise Unusable(f"{path}: no column {STEPS}")
            others = [name for name in header if is_wanted(name) and name != STEPS]
            wanted = {name: header.index(name) for name in (STEPS, *others)}
            rows = [[_number(row[at]) for at in wanted.values()] for row in reader if len(row) == len(header)]
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise Unusable(f"{path}: not a table ({error})") from error
    table = np.array(rows, dtype=np.float64).reshape(-1, len(wanted))
    table = table[np.isfinite(table[:, 0])]
    _, last = np.unique(table[::-1, 0], return_index=True)
    table = table[::-1][last]
    if not len(table):
        raise Unusable(f"{path}: no iteration yet")
    return dict(zip(wanted, table.T.copy(), strict=True))


def _number(cell: str) -> float:
    """NaN for what is empty, no number, or so large that a sum of squares is not finite."""
    try:
        value = float(cell) if cell else math.nan
    except ValueError:
        return math.nan
    return value if abs(value) < LARGEST else math.nan


def read_lineage(path: Path) -> Iterator[dict[str, Any]]:
    """The generations; what does not read as one is not one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        try:
            record: Any = json.loads(line) if line.endswith("\n") else None
        except json.JSONDecodeError:
            continue
        if _is_generation(record):
            yield {**record, "fitness": [math.nan if value is None else value for value in record["fitness"]]}


def _is_generation(record: Any) -> bool:  # noqa: ANN401  (whatever JSON holds)
    """Whether a line tells of a generation, all of it; of an agent the fitness may not be known, which is null."""
    try:
        known = [value for value in record["fitness"] if value is not None]
        agents = range(sum(abs(value) < LARGEST for value in known) + record["fitness"].count(None))
        families = zip(record["children"], record["parents"], strict=True)
        named = [*record["elites"], *(agent for child, (one, two) in families for agent in (child, one, two))]
        whole = len(agents) == len(record["fitness"]) > 1 and float(record["env_steps"]) >= 0
        return whole and bool(known) and all(agent in agents for agent in named)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
