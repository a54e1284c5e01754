"""Master and best follower of a run, of which `validate --agents` or `test --agents` has told."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from epo_lightning.documents.action_kinds import ACTION_KINDS
from epo_lightning.report.evaluation import EVALUATIONS, LARGEST, Evaluation
from epo_lightning.report.grouping import Group
from epo_lightning.report.reading import Run
from epo_lightning.report.statistics import Interval, Mean, mean

QUANTITIES = ("return", "successes")


class Told(NamedTuple):
    """What one agent did.

    Attributes:
        agent: Its number.
        quantities: Mean and standard error over its episodes, by name; not all may be known.
    """

    agent: int
    quantities: dict[str, Mean]


class Standing(NamedTuple):
    """Two agents of one run, by one kind of actions.

    Attributes:
        run: The run.
        source: The evaluation that tells of it.
        kind: `mean` or `drawn`.
        env_steps: Of the training when they were like this; None where it is not told.
        others: How many agents besides the champion were evaluated.
        champion: The master, where there is one; None where it was not evaluated.
        best: The best of the others, by episodes that did not choose it; None where nobody could be chosen.
    """

    run: Run
    source: Evaluation
    kind: str
    env_steps: int | None
    others: int
    champion: Told | None
    best: Told | None

    def has(self, quantity: str) -> bool:
        """Whether it is anything but zero of one of the two: a task may count no successes."""
        both = [told.quantities.get(quantity) for told in (self.champion, self.best) if told is not None]
        return any(value is not None and value.value != 0 for value in both)


def standings(group: Group) -> list[Standing]:
    """Of each run that was evaluated so, a kind of actions after the other."""
    found = [each for run in group.runs for each in _of_run(run)]
    return [each for kind in ACTION_KINDS for each in found if each.kind == kind]


def over_seeds(several: Sequence[Standing], whom: str, quantity: str) -> Mean | None:
    """Mean and standard error over runs of the champion's or the best one's quantity, where all of them tell it."""
    told: list[Told | None] = [getattr(each, whom) for each in several]
    known = [each.quantities[quantity].value for each in told if each is not None and quantity in each.quantities]
    return mean(known) if known and len(known) == len(several) else None


def remarks(found: Sequence[Standing], runs: Sequence[Run], own: str, other: str) -> list[str]:
    """What a reader has to know of these numbers.

    Args:
        found: The standings of a method.
        runs: All of its runs.
        own: What the champion is called.
        other: What one of the others is called.
    """
    sources = sorted({f"checkpoints/{one.source.file}" for one in found})
    chosen = sorted({one.others for one in found if one.others > 1 and one.best is not None})
    beside = f" beside the best {other} (its number)" if any(one.best for one in found) else ""
    told = [f"The {own}{beside}, from {' and '.join(sources)}."]
    if chosen:
        counts = " or ".join(map(str, chosen))
        told.append(
            f"The best of {counts} was chosen by half of its episodes; the numbers are those of the other half."
        )
    told.append("s.e. is over episodes, in a line of all seeds over seeds.")
    lacking = [str(run.seed) for run in runs if all(one.run is not run for one in found)]
    if lacking:
        told.append(f"Not evaluated so: seed {', '.join(lacking)}.")
    if stale := sorted({str(one.run.path) for one in found if one.source.is_stale}):
        told.append(f"Evaluated before the checkpoint was written again: {', '.join(stale)}.")
    return told


def told_by(name: str, run: Run) -> list[Standing]:
    """What the evaluation of that name tells of a run's agents, by each kind of actions."""
    source = run.evaluations.get(name)
    content: Any = source.content.get("agents") if source is not None else None
    if source is None or not isinstance(content, dict):
        return []
    found = [_standing(run, source, kind, content) for kind in ACTION_KINDS if isinstance(content.get(kind), dict)]
    return [each for each in found if each is not None]


def _of_run(run: Run) -> list[Standing]:
    """Of the first evaluation that tells of several agents."""
    return next((found for name in EVALUATIONS if (found := told_by(name, run))), [])


def _standing(run: Run, source: Evaluation, kind: str, content: Mapping[str, Any]) -> Standing | None:
    """None where it does not read as one."""
    champion, steps, rows = content.get("champion"), content.get("env_steps"), content[kind].get("agents")
    told = [_told(row) for row in rows] if isinstance(rows, list) else []
    agents = {each.agent: each for each in told if each is not None}
    if not agents or not _is_count(champion):
        return None
    others = [each for each in agents.values() if each.agent != champion]
    best = _told(content[kind].get("best"))
    if len(others) == 1:
        best = others[0]  # nobody had to choose
    known_steps = steps if _is_count(steps) else None
    return Standing(run, source, kind, known_steps, len(others), agents.get(champion), best)


def _told(row: Any) -> Told | None:  # noqa: ANN401  (whatever JSON holds)
    if not isinstance(row, dict) or not _is_count(row.get("agent")):
        return None
    known = {name: _mean(row.get(name)) for name in QUANTITIES}
    quantities = {name: value for name, value in known.items() if value is not None}
    return Told(row["agent"], quantities) if "return" in quantities else None


def _mean(told: Any) -> Mean | None:  # noqa: ANN401
    """What a file says of a quantity; its interval is not told."""
    if not isinstance(told, dict) or not _is_number(told.get("mean")):
        return None
    error = told.get("standard_error")
    return Mean(float(told["mean"]), float(error) if _is_number(error) else math.nan, Interval(-math.inf, math.inf), 1)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
