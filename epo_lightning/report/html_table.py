"""Tables of a page, and how numbers stand in them."""

import math
from collections.abc import Callable, Sequence

from epo_lightning.report.statistics import Interval, Mean

UNKNOWN = "–"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> str:
    """A table; the columns `words` are texts. Whatever stands in a cell is HTML."""
    mark: Callable[[int], str] = lambda column: ' class="words"' if column in words else ""  # noqa: E731
    head = "".join(f"<th{mark(c)}>{name}</th>" for c, name in enumerate(header))
    body = "".join(f"<tr>{''.join(f'<td{mark(c)}>{cell}</td>' for c, cell in enumerate(row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def plus_minus(value: Mean) -> str:
    """The error with two digits, and the value to the same place."""
    error = value.standard_error
    if math.isnan(error) or error == 0:
        return number(value.value) + ("" if math.isnan(error) else " ± 0")
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value.value:,.{decimals}f} ± {error:,.{decimals}f}"


def interval(value: Interval) -> str:
    """Both ends."""
    return UNKNOWN if math.isinf(value.low) else f"[{number(value.low)}, {number(value.high)}]"


def number(value: float) -> str:
    """Four digits."""
    return UNKNOWN if math.isnan(value) else f"{value:#.4g}" if abs(value) < 1000 else f"{value:,.0f}"
