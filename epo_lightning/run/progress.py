"""What a user sees of a running training: once per iteration, never per minibatch."""

import contextlib
import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import Mapping

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm.auto import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from epo_lightning.modules.base import PopulationCallback
from epo_lightning.run.interruption import TimeLimit

_WIDEST = 80
_SMALLEST_BAR = 6
_SECONDS_BETWEEN_LINES = 10.0
_MOST_SECONDS_BETWEEN_LINES = 600.0
_LINES_PER_TIME = 50
"""A long run tells so many lines in the time that it has taken so far."""
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class IterationProgress(PopulationCallback, ProgressBar):
    """A line that stays in its place on a terminal and in a notebook; otherwise plain lines now and then.

    Plain lines come after the first and the last iteration, and at most every ten seconds; as a run gets longer, more
    rarely, at last every ten minutes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._at_end = contextlib.ExitStack()
        self._enabled = True
        self._has_succeeded = False

    def disable(self) -> None:
        """Lightning calls this on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again what `disable` has hidden."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar where a person reads it."""
        self._started = time.monotonic()
        self._next_line = -math.inf
        self._remaining = RemainingTime(self._started)
        if self._enabled and (in_notebook() or is_terminal()):
            self._bar = tqdm(total=_iterations(trainer), initial=trainer.current_epoch, bar_format="{desc}")
            if not in_notebook():  # messages of a generation stand above the line, not in it
                self._at_end.enter_context(logging_redirect_tqdm([logging.getLogger("lightning.pytorch")]))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The module knows its metrics after the hooks of the iteration's end: show them at the next start."""
        self._show(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last iteration is always shown."""
        self._next_line = -math.inf
        self._show(trainer)
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._close()

    def _show(self, trainer: L.Trainer) -> None:
        metrics = self.module.metrics
        if not self._enabled or "charts/iteration" not in metrics:
            return
        now, total, done = time.monotonic(), _iterations(trainer), int(metrics["charts/iteration"])
        self._remaining.tick(now, done)
        left = min(self._remaining.seconds(total), _until_time_limit(trainer))
        self._has_succeeded |= metrics["charts/episodic_successes"] > 0
        fields = tell(metrics, total, left, succeeds=self._has_succeeded)
        if self._bar is not None:
            self._draw(self._bar, fields, done)
        elif now >= self._next_line:
            pause = (now - self._started) / _LINES_PER_TIME
            self._next_line = now + min(max(pause, _SECONDS_BETWEEN_LINES), _MOST_SECONDS_BETWEEN_LINES)
            print("iteration " + fit(fields, None), flush=True)

    def _draw(self, bar: tqdm, fields: Mapping[str, str], done: int) -> None:
        if in_notebook():
            line, bar.bar_format = fit(fields, None), "{desc} {bar}"
        else:
            bar.ncols = min(_WIDEST, terminal_columns()) - 1  # a line as wide as the terminal would break
            line = fit(fields, bar.ncols)
            has_room = bar.total is not None and bar.ncols - len(line) > _SMALLEST_BAR
            bar.bar_format = "{desc} {bar}" if has_room else "{desc}"
        bar.set_description_str(line, refresh=False)
        bar.update(done - bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._at_end.close()


class BarMetrics(PopulationCallback):
    """Gives a progress bar of the user's own the numbers to watch; those of an iteration appear in the next one."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Once per iteration."""
        metrics = self.module.metrics
        if batch_idx == 0 and "charts/iteration" in metrics:
            shown = {
                name: metrics[f"charts/{key}"]
                for name, key in (("return", "episodic_return"), ("successes", "episodic_successes"), ("sps", "sps"))
            }
            known = {name: value for name, value in shown.items() if not math.isnan(value)}
            pl_module.log_dict(known, prog_bar=True, logger=False, on_step=True, on_epoch=False, batch_size=1)


class RemainingTime:
    """How long a training will still take, by its latest iterations.

    Args:
        now: Seconds of a clock when it starts.
        memory: How many iterations count; they get slower or faster as episodes and settings change.
    """

    def __init__(self, now: float, memory: int = 30) -> None:
        self._times = deque([now], maxlen=memory + 1)
        self._done = 0

    def tick(self, now: float, done: int) -> None:
        """An iteration has ended, `done` have been made."""
        if done != self._done:
            self._times.append(now)
            self._done = done

    def seconds(self, total: int | None) -> float:
        """Until `total` iterations have been made; infinite without an end or before the first one."""
        if total is None or len(self._times) < 2:
            return math.inf
        return (self._times[-1] - self._times[0]) / (len(self._times) - 1) * max(total - self._done, 0)


def tell(metrics: Mapping[str, float], total: int | None, left: float, *, succeeds: bool) -> dict[str, str]:
    """The numbers to watch by name, in the order in which they are shown.

    A dash stands for what no finished episode has shown yet.

    Args:
        metrics: Of the iteration.
        total: How many there will be; None for no end.
        left: Seconds until the end, told while there are some; infinite where it is not known.
        succeeds: An episode has had a success so far; a task may know none.
    """
    successes = metrics["charts/episodic_successes"] if succeeds else math.nan
    fields = {
        "iteration": f"{metrics['charts/iteration']:.0f}" + ("" if total is None else f"/{total}"),
        "env_steps": f"{short(metrics['charts/env_steps'])} env steps",
        "return": f"return {short(metrics['charts/episodic_return'], 4)}",
        "successes": f"successes {short(successes)}",
        "speed": f"{short(metrics['charts/sps'])}/s",
    }
    if 0.0 < left < math.inf:
        fields["left"] = f"{tqdm.format_interval(left)} left"
    if "charts/generation" in metrics:
        fields["generation"] = f"generation {metrics['charts/generation']:.0f}"
    return fields


def fit(fields: Mapping[str, str], width: int | None) -> str:
    """What of `fields` (see `tell`) has room in one line of `width` columns; None for any width."""
    shown = dict(fields)
    for name in ("generation", "speed", "env_steps", "successes", "left", "return"):
        if width is None or len(", ".join(shown.values())) <= width:
            break
        shown.pop(name, None)
    return ", ".join(shown.values())[:width]


def short(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits and a unit: 1.23M; a dash for NaN."""
    if math.isnan(value):
        return "-"
    rounded = float(f"{value:.{digits}g}")
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(rounded) >= size), (1.0, ""))
    return f"{rounded / size:.{digits}g}{unit}"


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def is_terminal() -> bool:
    """Whether what is written to the standard error stands on a terminal."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it was closed
        return False


def terminal_columns() -> int:
    """Of the terminal as it is now; 80 where there is none, or one that does not tell."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _WIDEST
    except (OSError, ValueError, AttributeError):
        return _WIDEST


def _iterations(trainer: L.Trainer) -> int | None:
    """How many the run will have made; None for no end."""
    return None if trainer.max_epochs in (None, -1) else trainer.max_epochs


def _until_time_limit(trainer: L.Trainer) -> float:
    """Seconds of `trainer.max_time` that are left; infinite without."""
    limits = [each for each in trainer.callbacks if isinstance(each, TimeLimit)]  # type: ignore[attr-defined]
    remaining = limits[0].time_remaining() if limits else None
    return math.inf if remaining is None else max(remaining, 0.0)
