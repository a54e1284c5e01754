"""Where a run comes from: the checkpoints from which it was continued, and what it took until then.

It lies in every checkpoint. A checkpoint may be anybody's, so everything that is read here is checked first.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.run.checkpoint import fingerprint
from epo_lightning.run.logger_ids import known_loggers

MOST = 1000
"""Ancestors that are kept: the latest ones."""
_LONGEST = 4096
"""Characters of a text: the longest path of Linux."""


@dataclass(frozen=True)
class Ancestor:
    """A checkpoint from which a run was continued.

    Attributes:
        path: The file, as it was called then.
        iteration: How many it had made.
        env_steps: How many it had made.
        id: The fingerprint of its contents: copies have the same.
        when: The moment at which the run was continued, in UTC.
    """

    path: str
    iteration: int
    env_steps: int
    id: str
    when: str

    @classmethod
    def of(cls, path: Path, checkpoint: Mapping[str, Any]) -> "Ancestor":
        """The checkpoint in the file `path`, from which a run is continued now."""
        iteration, env_steps = checkpoint.get("epoch", -1) + 1, contents.env_steps_of(checkpoint)
        return cls(str(path.resolve()), iteration, env_steps, fingerprint(path), now())


@dataclass(frozen=True)
class History:
    """What a run was before.

    Attributes:
        lineage: The checkpoints from which it was continued, the latest last.
        seconds: How long it has trained, over all continuations.
        loggers: Under which id a logger knows it, by the name of the logger's class.
    """

    lineage: tuple[Ancestor, ...] = ()
    seconds: float = 0.0
    loggers: Mapping[str, str] = field(default_factory=dict)

    def continued_from(self, ancestor: Ancestor) -> "History":
        """The same, with one more ancestor."""
        return replace(self, lineage=(*self.lineage, ancestor)[-MOST:])

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        lineage = [asdict(ancestor) for ancestor in self.lineage]
        return {"lineage": lineage, "seconds": self.seconds, "loggers": dict(self.loggers)}


def history_of(checkpoint: Mapping[str, Any]) -> History:
    """What a checkpoint tells; nothing where it was written before there was a history.

    Raises:
        Mistake: When it is not as this package writes it.
    """
    stored = checkpoint.get(contents.HISTORY, {})
    try:
        lineage = tuple(_ancestor(each) for each in _list(stored.get("lineage", [])))
        seconds, loggers = stored.get("seconds", 0.0), stored.get("loggers", {})
        if not (isinstance(seconds, float | int) and math.isfinite(seconds) and seconds >= 0):
            raise TypeError("seconds")
        return History(lineage, float(seconds), known_loggers(loggers))
    except (TypeError, AttributeError, ValueError) as error:
        raise Mistake("ckpt_path: its history is not that of a run: it is damaged") from error


def now() -> str:
    """The moment, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST:
        raise TypeError("no list, or too long a one")
    return value


def _ancestor(stored: Mapping[str, Any]) -> Ancestor:
    """One entry: short texts without anything that a terminal would obey, and whole numbers."""
    values = {each.name: stored[each.name] for each in fields(Ancestor) if each.name in stored}
    for name, value in values.items():
        if name in ("iteration", "env_steps"):
            sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
        else:
            sound = isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST
        if not sound:
            raise TypeError(name)
    return Ancestor(**values)
