"""What the entries of an observation and of an action are, for whoever feeds a policy: names, units, meaning."""

from collections.abc import Sequence
from typing import NamedTuple

from epo_lightning.learner.observations import Group
from epo_lightning.limits import Mistake


class Signal(NamedTuple):
    """Neighbouring entries of an observation or of an action that belong together.

    Attributes:
        name: A word, as in `joint_velocity`.
        size: How many entries.
        unit: Such as m, rad, rad/s; empty where there is none, or it is not known.
        meaning: In words: the frame, the order, what a full action does.
        low: What -1 stands for in each entry, in `unit`; empty where that is not known.
        high: What 1 stands for.
    """

    name: str
    size: int
    unit: str = ""
    meaning: str = ""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class Signals(NamedTuple):
    """All entries, in order.

    Attributes:
        observation: Of what actors see: their sizes add up to `EnvSpec.seen`, without privileged groups.
        action: To `EnvSpec.act_dim`; of a discrete task one for each choice, of size 1.
    """

    observation: tuple[Signal, ...]
    action: tuple[Signal, ...]


def signal_of(group: Group) -> Signal:
    """What is known of a group of an observation."""
    if isinstance(group.shape, int):
        return Signal(group.name, group.size)
    height, width, channels = group.shape
    return Signal(group.name, group.size, "", f"image {height} x {width} x {channels}, row by row, entries 0 to 255")


def check_signals(signals: object, seen: int, act_dim: int) -> Signals:
    """Refuse what does not describe each of the `seen` entries that actors see, and each of an action, once.

    Raises:
        Mistake: Naming what is wrong.
    """
    if not isinstance(signals, Signals):
        raise Mistake(f"signals() must return Signals, got {type(signals).__name__}")
    for kind, entries, size in (("observation", signals.observation, seen), ("action", signals.action, act_dim)):
        names = [entry.name for entry in entries]
        if len(set(names)) < len(names):
            raise Mistake(f"signals(): the names of the {kind}'s entries must differ, got {', '.join(names)}")
        for entry in entries:
            if not {len(entry.low), len(entry.high)} <= {0, entry.size}:
                raise Mistake(f"signals(): {entry.name} needs {entry.size} numbers in low and high, or none")
        if (total := _total(entries)) != size:
            raise Mistake(f"signals(): the {kind}'s entries are {total} numbers, the environment has {size}")
    return signals


def _total(entries: Sequence[Signal]) -> int:
    return sum(entry.size for entry in entries)
