"""Mistakes of the user, and ranges of hyper-parameters, checked with one message for all of them."""

import math


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
    if (low < value if open_low else low <= value) and value <= high:
        return
    bounds = [f"{'greater than' if open_low else 'at least'} {low:g}"] if low > -math.inf else []
    bounds += [f"at most {high:g}"] if high < math.inf else []
    raise Mistake(f"{key} must be {' and '.join(bounds) or 'a number'}, got {value}")
