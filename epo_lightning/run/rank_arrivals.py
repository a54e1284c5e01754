"""Who is waited for: a rank whose process lives and whose own thread does not come to the others' collective call."""

from collections.abc import Iterator

from epo_lightning.run.rank_lines import Place


class Arrivals:
    """How many collective calls each rank has entered, and how long those ahead of it have waited for it.

    All ranks enter the same calls in the same order. One that has entered fewer than another is waited for; who has
    entered as many waits, or computes.
    """

    def __init__(self) -> None:
        self._calls: dict[Place, int] = {}
        self._waited: dict[Place, float] = {}

    def note(self, place: Place, calls: int) -> None:
        """`place` has entered so many."""
        if self._calls.get(place) != calls:
            self._calls[place], self._waited[place] = calls, 0.0

    def forget(self, place: Place) -> None:
        """`place` has ended: nobody waits for it any more, nor does it wait."""
        self._calls.pop(place, None)

    def wait(self, seconds: float) -> Iterator[tuple[Place, float]]:
        """So much time has gone by; the ranks that others wait for, and for how long in all."""
        most = max(self._calls.values(), default=0)
        for place, calls in self._calls.items():
            if calls < most:
                self._waited[place] += seconds
                yield place, self._waited[place]
