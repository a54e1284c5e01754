"""Mistakes of the user, and ranges of hyper-parameters, checked with one message for all of them."""

import contextlib
import math
from collections.abc import Iterator

_RECORDED: list[dict[str, str]] = []


class Mistake(ValueError):
    """The user's, not ours: the message is one line that names a YAML key, a flag or a file, and the remedy.

    The command line prints it without a traceback; any other ValueError is a bug, of this package or of another.
    """


def require_range(
    key: str, value: float, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> None:
    """Check a number.

    Args:
        key: YAML key, for the message.
        value: What was given; NaN is never in range.
        low: Smallest allowed value, or with `open_low` the bound that must be exceeded.
        high: Largest allowed value.
        open_low: Exclude `low` itself.

    Raises:
        Mistake: One line that names the key and the range.
    """
    for ranges in _RECORDED:
        ranges.setdefault(key.split(" ")[0], describe_range(low, high, open_low=open_low))
    if (low < value if open_low else low <= value) and value <= high:
        return
    raise Mistake(f"{key} must be {describe_range(low, high, open_low=open_low)}, got {value}")


def describe_range(low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> str:
    """A range in words, for messages and help; see `require_range`."""
    bounds = [f"{'greater than' if open_low else 'at least'} {low:g}"] if low > -math.inf else []
    bounds += [f"at most {high:g}"] if high < math.inf else []
    return " and ".join(bounds) or "a number"


@contextlib.contextmanager
def recorded_ranges() -> Iterator[dict[str, str]]:
    """The range of every key that is checked meanwhile, in words: what help says is what is checked."""
    ranges: dict[str, str] = {}
    _RECORDED.append(ranges)
    try:
        yield ranges
    finally:
        _RECORDED.remove(ranges)
