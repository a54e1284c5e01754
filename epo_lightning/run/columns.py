"""In which order `metrics.csv` has its columns, and how it writes numbers.

What is read first stands first: env steps, iteration, return, successes, wall clock; then groups, by name; what is of
single agents last. The order hangs on the names alone, so that it does not matter when a column came.
"""

import math
import re

STEP, ITERATION = "charts/env_steps", "charts/iteration"
SECONDS, MOMENT = "time/elapsed", "time/utc"
FIRST = (
    STEP,
    ITERATION,
    "charts/episodic_return",
    "charts/episodic_successes",
    "charts/episodic_length",
    "charts/episodic_coverage",
    SECONDS,
    MOMENT,
    "charts/sps",
)
_GROUPS = ("charts", "population", "losses", "env", "time", "", "hyper_parameters", "agents")
"""By the first word of a name; no word, and any other one, stand for what others' callbacks log."""
_OF_AGENTS = ("return", "successes", "ess", "kl_to_master", "entropy", "coverage", "goals")
_DIGITS = 6
_MORE_DIGITS = 9
_SMALL = 100


def place(name: str) -> tuple[int, int, list[tuple[int, str]]]:
    """What a column is sorted by."""
    if name in FIRST:
        return -1, FIRST.index(name), []
    group, slash, rest = name.partition("/")
    number = _GROUPS.index(group) if slash and group in _GROUPS else _GROUPS.index("")
    kind = rest.partition("/")[0]
    known = _OF_AGENTS.index(kind) if group == "agents" and kind in _OF_AGENTS else len(_OF_AGENTS)
    # numbers in a name sort as numbers: agents/return/2 before agents/return/10
    parts = [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
    return number, known, parts


def told(value: object) -> str:
    """A value with six digits; whole numbers stay whole, and no small one becomes whole: 0.9999999 is not 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    short = f"{value:.{_DIGITS}g}"
    return f"{value:.{_MORE_DIGITS}g}" if float(short).is_integer() and abs(value) < _SMALL else short
