"""How many threads step a batch of MuJoCo scenes: as the user says, all cores, or as a short measurement says.

Results depend on none of it, so that a machine may be asked anew whenever a training begins.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
from mujoco import batch

from epo_lightning.limits import Mistake
from epo_lightning.physics.base import WantedThreads

KEY = "data.env.init_args.threads"
_ENVS = 512
"""Environments of the measurement, at most: more take longer, and say the same."""
_WARM, _TIMED = 2, 5
_GAIN = 0.03
"""Share of the time that one more thread, or a core of its own, must save."""
_TASKS = Path("/proc/self/task")
_KNOWN: dict[tuple[int, ...], "Measured"] = {}
STAGE = mujoco.mjtStage


class Choice(NamedTuple):
    """Who steps a batch.

    Attributes:
        threads: How many, the calling one included.
        pinned: Whether each but the calling one keeps to a core of its own.
    """

    threads: int
    pinned: bool = False


class Measured(NamedTuple):
    """What the measurement found.

    Attributes:
        choice: The best.
        seconds: Of a control step of the measurement's environments, with each choice that was tried.
    """

    choice: Choice
    seconds: dict[Choice, float]

    @property
    def line(self) -> str:
        """What was chosen and why, for people."""
        tried = "; ".join(f"{_named(choice)} {1000 * seconds:.1f} ms" for choice, seconds in self.seconds.items())
        return f"{KEY} auto: {_named(self.choice)} for the physics (a step took {tried})"


def cores() -> int:
    """Cores that this process may use: by its affinity, and by the share of time that its control group has."""
    allowed = len(_affinity()) or os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def default_threads() -> int:
    """`cores`, shared fairly with the other ranks of this machine (`LOCAL_WORLD_SIZE`)."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def cpu_quota(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that the control groups of this process leave it; None where they set no limit.

    Args:
        own: Names the groups of this process.
        root: Where they are mounted: version 2 itself, or version 1 with a folder `cpu`.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # another system than Linux
        return None
    limits = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        tree = root if number == "0" else root / "cpu"
        group = tree / path.strip("/")
        groups = [group, *group.parents]
        own_groups = groups[: groups.index(tree) + 1] if tree in groups else [tree]
        limits += [_limit_of(each) for each in own_groups]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def first_choice(wanted: WantedThreads) -> Choice:
    """Before anything is measured.

    Raises:
        Mistake: When `wanted` is no number of threads.
    """
    if wanted is None or wanted == "auto":
        return Choice(default_threads())
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise Mistake(f"{KEY} must be at least 1, auto to measure, or null for all cores; got {wanted}")
    return Choice(min(wanted, cores()))


def notice_of(wanted: WantedThreads) -> str:
    """One line where fewer threads are used than were asked for; empty where there is nothing to tell."""
    if isinstance(wanted, int) and wanted > (most := cores()):
        return f"{KEY} {wanted}: this process may use {most} core{'s' * (most > 1)}, so it is {most}"
    return ""


def new_batch(model: mujoco.MjModel, num_envs: int, choice: Choice) -> batch.Batch:
    """`num_envs` copies of `model` that `choice` steps."""
    before = _tasks()
    made = batch.Batch(model, num_envs, choice.threads, persistent=True)
    if choice.pinned:
        for core, task in zip(_own_cores()[1:], sorted(_tasks() - before), strict=False):
            os.sched_setaffinity(task, {core})
    return made


class Threads:
    """The threads of one engine: what is wanted, and what that came to.

    Args:
        wanted: Of the configuration.

    Attributes:
        choice: At first without a measurement: all cores where `wanted` is auto.

    Raises:
        Mistake: When `wanted` is no number of threads.
    """

    def __init__(self, wanted: WantedThreads) -> None:
        self.wanted, self.choice = wanted, first_choice(wanted)
        self._measured = self._goes_on = False

    def batch(self, model: mujoco.MjModel, num_envs: int) -> batch.Batch:
        """Copies of `model` that are stepped as was chosen."""
        return new_batch(model, num_envs, self.choice)

    def settle(
        self, model: mujoco.MjModel, num_envs: int, decimation: int, saved: Mapping[str, Any] | None
    ) -> tuple[str, bool]:
        """Choose, by a measurement or as a saved state says.

        Returns:
            One line for people, empty for none; and whether another choice was made than before.
        """
        before = self.choice
        if saved is not None:
            self._goes_on, told = True, saved.get("threads")
            if self.wanted == "auto" and told:
                self._measured = True
                self.choice = Choice(min(int(told[0]), cores()), bool(told[1]))
            return "", self.choice != before
        if self.wanted != "auto" or self._measured:
            return notice_of(self.wanted), False
        if self._goes_on:
            return f"{KEY} auto measures when a training begins; this one goes on with {_named(before)}", False
        found = _measured_once(model, num_envs, decimation)
        self._measured, self.choice = True, found.choice
        return found.line, self.choice != before

    def saved(self) -> dict[str, Any]:
        """What a state keeps of it: only what was measured."""
        return {"threads": list(self.choice)} if self._measured else {}


def measure(
    model: mujoco.MjModel, num_envs: int, decimation: int, clock: Callable[[], float] = time.perf_counter
) -> Measured:
    """Step a few copies of `model` with several numbers of threads; takes about a second.

    Args:
        model: The scene.
        num_envs: N of the training.
        decimation: Physics steps of a control step.
        clock: Tells seconds.
    """
    seconds: dict[Choice, float] = {}

    def timed(choice: Choice) -> float:
        copies = new_batch(model, min(num_envs, _ENVS), choice)
        times = []
        for _ in range(_WARM + _TIMED):
            start = clock()
            copies.step(nstep=decimation, stage=STAGE.mjSTAGE_VEL)
            times.append(clock() - start)
        seconds[choice] = min(times[_WARM:])
        return seconds[choice]

    best = Choice(1)
    timed(best)
    for threads in _numbers(min(default_threads(), num_envs)):
        if timed(choice := Choice(threads)) < (1 - _GAIN) * seconds[best]:
            best = choice
    if (
        best.threads > 1
        and _can_pin()
        and timed(pinned := Choice(best.threads, pinned=True)) < (1 - _GAIN) * seconds[best]
    ):
        best = pinned
    return Measured(best, seconds)


def _measured_once(model: mujoco.MjModel, num_envs: int, decimation: int) -> Measured:
    """The same for every scene of the same size in this process: halves of one training choose alike."""
    size = model.nq, model.nv, model.nbody, model.ngeom, num_envs, decimation, default_threads()
    if size not in _KNOWN:
        _KNOWN[size] = measure(model, num_envs, decimation)
    return _KNOWN[size]


def _numbers(most: int) -> Sequence[int]:
    """2, 4, 8, ... and `most`."""
    doubled = [2**power for power in range(1, most.bit_length()) if 2**power < most]
    return [*doubled, *([most] if most > 1 else [])]


def _named(choice: Choice) -> str:
    return f"{choice.threads} thread{'s' * (choice.threads > 1)}{', pinned' * choice.pinned}"


def _limit_of(group: Path) -> float | None:
    """Cores of one control group, of either version."""
    try:
        if (both := group / "cpu.max").exists():
            quota, period = both.read_text(encoding="utf-8").split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        return None if quota.strip() in ("max", "-1") else float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _affinity() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _own_cores() -> list[int]:
    """Those of this rank, where several share a machine."""
    share = default_threads()
    first = share * int(os.environ.get("LOCAL_RANK", "0"))
    return _affinity()[first : first + share]


def _can_pin() -> bool:
    """Whether this is Linux, and the rank has cores of its own."""
    return hasattr(os, "sched_setaffinity") and _TASKS.is_dir() and len(_own_cores()) > 1


def _tasks() -> set[int]:
    """The threads of this process, by the system's numbers."""
    return {int(name) for name in os.listdir(_TASKS)} if _TASKS.is_dir() else set()
