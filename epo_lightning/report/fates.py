"""What became of the agents of a run: who descends from whom, and who had the goal and lost it again.

Shape legend: T iterations, K agents, G generations.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from epo_lightning.report.statistics import Array

_HAS, _LOST = 0.5, 0.25
"""Shares of the most successes an episode of any agent: from the first on it has the goal, below the second not."""

_SHOWN = 8
"""Most families that are told of."""


class Descent(NamedTuple):
    """Of every agent (K,) int64, after the last generation.

    Attributes:
        founder: Who its elite ancestor was before the first generation.
        age: Generations since it was born, as it is.
    """

    founder: np.ndarray
    age: np.ndarray


def descent(records: Sequence[Mapping[str, Any]], agents: int) -> Descent:
    """Follow every child to its elite parent, back to the first population."""
    founder, born = np.arange(agents), np.zeros(agents, dtype=np.int64)
    for generation, record in enumerate(records, 1):
        before = founder.copy()
        for child, (elite, _) in zip(record["children"], record["parents"], strict=True):
            founder[int(child)], born[int(child)] = before[int(elite)], generation
    return Descent(founder, len(records) - born)


def told_descent(records: Sequence[Mapping[str, Any]], agents: int) -> str:
    """One sentence on the followers."""
    founder, age = (each[1:] for each in descent(records, agents))
    families = Counter(founder.tolist())
    lines = ", ".join(f"{count} from {agent}" for agent, count in families.most_common(_SHOWN))
    return (
        f"After {len(records)} generation(s) the {agents - 1} followers descend from {len(families)} of the first ones"
        f" ({lines}{', ...' if len(families) > _SHOWN else ''}); the oldest is {age.max()} generation(s) old, the"
        f" median {np.median(age):g}."
    )


class Goal(NamedTuple):
    """Of one agent, by iterations.

    Attributes:
        found: When it began to have the goal, in order.
        lost: When it lost it again; as many, or one fewer where it still has it.
    """

    found: list[int]
    lost: list[int]


def goal(successes: Array, most: float) -> Goal:
    """When an agent had the goal.

    It has it from half of `most` on, and has lost it below a quarter: what lies between changes nothing.

    Args:
        successes: (T,) an episode; NaN where it is not known.
        most: That any agent ever had.
    """
    found, lost = [], []
    has = False
    for place in np.flatnonzero(~np.isnan(successes)):
        if not has and successes[place] >= _HAS * most:
            has = True
            found.append(int(place))
        elif has and successes[place] < _LOST * most:
            has = False
            lost.append(int(place))
    return Goal(found, lost)


def told_goals(env_steps: Array, successes: Array, has_master: bool) -> str:
    """Sentences on the master, where there is one, and on the others; empty where nobody had any success.

    Args:
        env_steps: (T,).
        successes: (T, K) an episode.
        has_master: Whether agent 0 is another one than the others.
    """
    if not (successes > 0).any():
        return ""
    most = float(np.nanmax(successes))
    goals = [goal(successes[:, k], most) for k in range(successes.shape[1])]
    others, noun = (goals[1:], "follower") if has_master else (goals, "agent")
    had = [each for each in others if each.found]
    keep = sum(len(each.found) > len(each.lost) for each in had)
    master = f" The master {_of_master(goals[0], env_steps)}." if has_master else ""
    return (
        f"Most successes an episode of any agent: {most:.3g}.{master} Of {len(others)} {noun}(s) {len(had)} had the"
        f" goal (half of that) at some time, {keep} at the end."
    )


def _of_master(master: Goal, env_steps: Array) -> str:
    if not master.found:
        return "never had the goal (half of that)"
    told = [f"had the goal from {env_steps[at]:,.0f} env steps on" for at in master.found[:1]]
    if master.lost:
        times = "once" if len(master.lost) == 1 else f"{len(master.lost)} times"
        told.append(f"lost it {times}, first at {env_steps[master.lost[0]]:,.0f}")
        told.append("has it at the end" if len(master.found) > len(master.lost) else "has not got it at the end")
    return ", ".join(told)
