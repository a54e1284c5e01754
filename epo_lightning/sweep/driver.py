"""Runs as child processes, some at a time, until all of a plan have ended or a signal comes."""

import contextlib
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from epo_lightning.limits import Mistake
from epo_lightning.run.folder import writing
from epo_lightning.run.lock import FolderLock
from epo_lightning.sweep.children import Child, Stop
from epo_lightning.sweep.plan import Plan
from epo_lightning.sweep.progress import Going, Screen, remaining_seconds, told_seconds
from epo_lightning.sweep.runs import StudyRun

_SECONDS_BETWEEN_LOOKS = 0.2
_MOST_STARTS = 3
"""Of a run that something else ends by a signal."""


class _Started:
    """A run that goes on."""

    def __init__(self, run: StudyRun, environment: dict[str, str]) -> None:
        self.run, self._environment = run, environment
        self.before, self.since = run.share() or 0.0, time.monotonic()
        self.child, self.evaluates, self.is_unwanted = Child(run.training, run.log, environment), False, False

    def evaluate(self) -> bool:
        """Go on with the evaluation, if there is to be one."""
        if self.evaluates or self.run.evaluation is None:
            return False
        self.child, self.evaluates = Child(self.run.evaluation, self.run.log, self._environment), True
        return True

    def going(self) -> Going:
        share = self.run.share()
        return Going(self.run.method, share, (share or 0.0) - self.before, time.monotonic() - self.since)


class Driver:
    """Carries out a plan.

    Args:
        plan: Which runs.
        jobs: How many at a time.
        threads: Of a run.
        screen: Who tells.

    Attributes:
        failed: Runs that failed.
        signal: The signal that ended it, or 0.
    """

    def __init__(self, plan: Plan, jobs: int, threads: int, screen: Screen) -> None:
        self._plan, self._jobs, self._screen = plan, jobs, screen
        self._environment = {"OMP_NUM_THREADS": str(threads)}
        self._going: list[_Started] = []
        self._starts: dict[str, int] = defaultdict(int)
        self._took: dict[str, list[float]] = defaultdict(list)
        self.failed: list[StudyRun] = []
        self.signal = 0

    def drive(self) -> None:
        """Until everything has ended. Whatever happens, no child goes on."""
        with Stop() as stop:
            try:
                while True:
                    has_news = self._look(stop)
                    self._end(stop)
                    self._start(stop)
                    if not self._going and (stop.signal or not self._plan.waiting()):
                        break
                    self._screen.show(self._line(), is_news=has_news)
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
            finally:
                for started in self._going:
                    started.child.stop()
                while any(started.child.poll() is None for started in self._going) and not stop.at_once:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                for started in self._going:
                    started.child.kill()
                self._screen.clear()
            self.signal = stop.signal

    def _start(self, stop: Stop) -> None:
        """Fill the free places."""
        while not stop.signal and len(self._going) < self._jobs and (run := self._plan.next()) is not None:
            with writing(run.log.parent):
                run.log.parent.mkdir(parents=True, exist_ok=True)
            self._starts[run.name] += 1
            self._going.append(_Started(run, self._environment))

    def _end(self, stop: Stop) -> None:
        """End what nobody wants any more."""
        unwanted = {run.name for run in self._plan.unwanted()}
        for started in self._going:
            if started.run.name in unwanted and not started.is_unwanted:
                started.is_unwanted = True
                started.child.stop()
        if stop.signal and not self.signal:
            self.signal = stop.signal
            name = signal.Signals(stop.signal).name
            self._screen.say(
                f"{name}: {len(self._going)} run(s) finish their iteration and save; again to stop at once"
            )
            for started in self._going:
                started.child.stop()
        if stop.at_once:
            for started in self._going:
                started.child.kill()

    def _look(self, stop: Stop) -> bool:
        """Note who has ended; returns whether anybody has."""
        ended = [(started, code) for started in self._going if (code := started.child.poll()) is not None]
        for started, code in ended:
            if code == 0 and not started.is_unwanted and not stop.signal and started.evaluate():
                continue
            self._going.remove(started)
            if not started.is_unwanted:
                self._note(started, code, stop)
        return bool(ended)

    def _note(self, started: _Started, code: int, stop: Stop) -> None:
        run, number = started.run, -code if code < 0 else code - 128
        if code == 0 and (started.evaluates or run.evaluation is None):
            run.finish()
            gained = 1 - started.before
            if gained > 0:
                self._took[run.method].append((time.monotonic() - started.since) / gained)
            self._plan.ended(run, None)
        elif stop.signal:
            pass  # it has saved, and goes on with the next sweep
        elif 0 < number < signal.NSIG and self._starts[run.name] < _MOST_STARTS:
            self._screen.say(f"{run.name} was cut by {_signal_name(number)}: it goes on")
            self._plan.put_back(run)
        else:
            complaint = run.complaint() if code > 0 else f"ended by {_signal_name(number)}, {_MOST_STARTS} times"
            self.failed.append(run)
            self._screen.say(f"failed: {run.name}: {complaint or f'exit code {code}'} (see {run.log})")
            self._plan.ended(run, complaint)

    def _line(self) -> str:
        going = [started.going() for started in self._going]
        parts = [self._plan.told(), f"{len(going)} going"]
        if len(going) <= 4 and all(one.share is not None for one in going) and going:
            parts[-1] += f" ({', '.join(f'{100 * (one.share or 0.0):.0f} %' for one in going)})"
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.signal:
            parts.append("stopping")
        else:
            waiting = [(run.method, run.share() or 0.0) for run in self._plan.waiting()]
            if waiting and not going:
                parts[1] = f"waiting for the process that trains in {self._plan.waiting()[0].run.path}"
            waiting += [("", 0.0)] * self._plan.further()
            seconds = remaining_seconds(going, waiting, self._took, self._jobs)
            if seconds is not None:
                parts.append(f"about {told_seconds(seconds)} left")
        return ", ".join(parts)


def _signal_name(number: int) -> str:
    return signal.Signals(number).name if number in {*signal.Signals} else f"signal {number}"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder of a study, and keep other drivers out of it.

    Raises:
        Mistake: When another one is at work there.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FolderLock(folder)
        except BlockingIOError:
            raise Mistake(f"out: another sweep is at work in {folder}: wait for it, or choose another folder") from None
    try:
        yield
    finally:
        lock.release()
