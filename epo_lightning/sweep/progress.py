"""One line of a study: what is done, what is going on, and how long it will still take."""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TextIO

_COLUMNS = 79
_SECONDS_BETWEEN_LINES = 60.0


class Going(NamedTuple):
    """A run that is going on.

    Attributes:
        method: Its method.
        share: Of its iterations, those that are made; None where nobody knows.
        gained: Of them, those since it started here.
        seconds: Since then.
    """

    method: str
    share: float | None
    gained: float
    seconds: float


def remaining_seconds(
    going: Sequence[Going], waiting: Sequence[tuple[str, float]], took: Mapping[str, Sequence[float]], jobs: int
) -> float | None:
    """How long a study still takes.

    A run of a method takes as long as others of it did, else as those that are going on seem to take, else as those
    of other methods.

    Args:
        going: What is going on.
        waiting: Method and share that is already made of each run that has not started here.
        took: By method how long whole runs of it took, in seconds.
        jobs: How many at a time.

    Returns:
        Seconds; None while nothing is known.
    """
    whole = {method: list(seconds) for method, seconds in took.items()}
    for run in going:
        if run.share is not None and run.gained >= 0.02:
            whole.setdefault(run.method, []).append(run.seconds / run.gained)
    if not whole:
        return None
    known = {method: statistics.mean(seconds) for method, seconds in whole.items()}
    other = statistics.mean(known.values())
    left = [known.get(run.method, other) * (1 - (run.share or 0.0)) for run in going]
    left += [known.get(method, other) * (1 - share) for method, share in waiting]
    return max([sum(left) / jobs, *left]) if left else 0.0


def told_seconds(seconds: float) -> str:
    """In words: `40 s`, `3 min`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


class Screen:
    """Shows the line: in place on a terminal, else now and then.

    Args:
        stream: Where to; by default the standard error.
        clock: Seconds.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._in_place = self._stream.isatty()
        self._shown, self._last, self._last_time = "", "", -float("inf")

    def show(self, line: str, *, is_news: bool = False) -> None:
        """Show where the study stands; `is_news`: a run has ended."""
        columns = self._columns()
        line = line if len(line) <= columns else f"{line[: columns - 1]}…"
        if self._in_place:
            if line != self._shown:
                self._write(f"\r{line:{len(self._shown)}}")
                self._shown = line
        elif line != self._last and (is_news or self._clock() - self._last_time >= _SECONDS_BETWEEN_LINES):
            self._write(f"{line}\n")
            self._last, self._last_time = line, self._clock()

    def say(self, line: str) -> None:
        """A line that stays."""
        self.clear()
        self._write(f"{line}\n")

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._write(f"\r{'':{len(self._shown)}}\r")
            self._shown = ""

    def _columns(self) -> int:
        """What a line may have, so that the next one can stand in its place."""
        try:
            return max(2, min(_COLUMNS, os.get_terminal_size(self._stream.fileno()).columns - 1))
        except (OSError, ValueError):
            return _COLUMNS

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone: the runs are not
            self._stream.write(text)
            self._stream.flush()
