"""Which runs there are, and which comes next."""

from collections.abc import Sequence
from typing import Protocol

from epo_lightning.sweep.runs import StudyRun


class Plan(Protocol):
    """Which runs there are; a search makes them up on the way."""

    def next(self) -> StudyRun | None:
        """A run to start now; None: none, or none yet."""

    def waiting(self) -> Sequence[StudyRun]:
        """Runs that will be started."""

    def further(self) -> int:
        """How many runs there will be besides, of which nothing is known yet."""

    def ended(self, run: StudyRun, complaint: str | None) -> None:
        """A run is done, or has failed with a complaint."""

    def put_back(self, run: StudyRun) -> None:
        """A run was cut, and is to be started again."""

    def unwanted(self) -> Sequence[StudyRun]:
        """Runs that go on but need not."""

    def told(self) -> str:
        """What is done of how much: `4 of 6 runs done`."""


class ListPlan:
    """Runs that are known from the beginning.

    Args:
        runs: All of them; those that are done are skipped.
    """

    def __init__(self, runs: Sequence[StudyRun]) -> None:
        self._all = len(runs)
        self._waiting = [run for run in runs if not run.is_done()]
        self._done = self._all - len(self._waiting)

    def next(self) -> StudyRun | None:
        """The first whose folder is free."""
        return take_free(self._waiting)

    def waiting(self) -> Sequence[StudyRun]:
        """Those that have not been started."""
        return self._waiting

    def further(self) -> int:
        """None."""
        return 0

    def ended(self, run: StudyRun, complaint: str | None) -> None:  # noqa: ARG002  (which a search needs)
        """Count it."""
        self._done += complaint is None

    def put_back(self, run: StudyRun) -> None:
        """It is the next one."""
        self._waiting.insert(0, run)

    def unwanted(self) -> Sequence[StudyRun]:
        """None."""
        return ()

    def told(self) -> str:
        """Runs."""
        return f"{self._done} of {self._all} runs done"


def take_free(waiting: list[StudyRun]) -> StudyRun | None:
    """Take the first run away that no other process is writing to."""
    for run in waiting:
        if run.is_free():
            waiting.remove(run)
            return run
    return None
