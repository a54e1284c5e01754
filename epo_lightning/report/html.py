"""Tables and numbers as a page shows them."""

import math
from collections.abc import Callable, Sequence

from epo_lightning.report.statistics import Interval, Mean

UNKNOWN = "–"


def as_table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> str:
    """A table of cells that are HTML; the columns `words` are on the left."""
    mark: Callable[[int], str] = lambda column: ' class="words"' if column in words else ""  # noqa: E731
    head = "".join(f"<th{mark(c)}>{name}</th>" for c, name in enumerate(header))
    body = "".join(f"<tr>{''.join(f'<td{mark(c)}>{cell}</td>' for c, cell in enumerate(row))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def plus_minus(value: Mean) -> str:
    """The error with two digits, and the value to the same place."""
    error = value.standard_error
    if math.isnan(error) or error == 0:
        return as_number(value.value) + ("" if math.isnan(error) else " ± 0")
    decimals = max(0, 1 - math.floor(math.log10(error)))
    return f"{value.value:,.{decimals}f} ± {error:,.{decimals}f}"


def as_interval(interval: Interval) -> str:
    """A dash for one without an end."""
    return UNKNOWN if math.isinf(interval.low) else f"[{as_number(interval.low)}, {as_number(interval.high)}]"


def as_number(value: float) -> str:
    """Four digits; a dash for what is not known."""
    return UNKNOWN if math.isnan(value) else f"{value:#.4g}" if abs(value) < 1000 else f"{value:,.0f}"
