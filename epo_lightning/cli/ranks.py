"""Several ranks as one: they agree before anything begins, and end together, in one line."""

import contextlib
import os
import secrets
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import torch.distributed as dist
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from epo_lightning.cli.entry import describe, is_users_mistake
from epo_lightning.cli.invocation import Invocation
from epo_lightning.limits import Mistake
from epo_lightning.run.rank_agreement import common_facts, require_agreement
from epo_lightning.run.rank_lines import Place, answer, call, open_door
from epo_lightning.run.rank_watch import Loss, RankWatch, longest_wait, patience

_OF_A_LINE = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What torch says where a collective operation fails because another rank has gone."""


@contextlib.contextmanager
def together(run: Invocation, sum_up: Callable[[str], None] | None = None) -> Iterator[None]:
    """Whatever the trainer of `run` does inside, its ranks begin alike and end together; nothing where there is one.

    Args:
        run: What the command line means.
        sum_up: What the first rank does before it ends because another one is lost, with the line that says so.
    """
    ranks = Ranks(run, sum_up)
    run.datamodule.before_setup = ranks.begin
    try:
        yield
    except BaseException as error:
        ranks.fail(error)
        raise
    ranks.leave()


class Ranks:
    """The watch over the ranks of one command.

    Args:
        run: What the command line means.
        sum_up: See `together`.
    """

    def __init__(self, run: Invocation, sum_up: Callable[[str], None] | None) -> None:
        self.run, self.trainer, self._sum_up = run, run.trainer, sum_up
        self.watch: RankWatch | None = None

    def begin(self) -> None:
        """As soon as the ranks can talk: a collective call.

        Raises:
            Mistake: When one of them would do something else.
        """
        if self.watch is not None or self.trainer.world_size == 1:
            return
        trained = self.run.trained
        checkpoint = {"the checkpoint's iteration": trained.iterations, "its env steps": trained.env_steps}
        facts = common_facts(self.run.resolved, checkpoint)
        own = Place.here(self.trainer.global_rank)
        told = [(own, facts)] * self.trainer.world_size
        dist.all_gather_object(told, (own, facts))
        places = [place for place, _ in told]
        self.watch = self._watch(own, places)
        self.watch.start()
        require_agreement([each for _, each in told], places)

    def _watch(self, own: Place, places: list[Place]) -> RankWatch:
        hosts = [place.host for place in places]
        door = None if own.rank else open_door(hosts)
        entrance = [None if door is None else (door.getsockname()[1], secrets.token_hex())]
        dist.broadcast_object_list(entrance)
        assert entrance[0] is not None
        port, token = entrance[0]
        if door is not None:
            peers = answer(door, token, places[1:])
            return RankWatch(own, peers, patience(), self._end, self._autopsy, _calls, longest_wait(), _tell_late)
        first = "127.0.0.1" if len({*hosts}) == 1 else os.environ.get("MASTER_ADDR", hosts[0])
        line = call(first, port, token, own.rank)
        return RankWatch(own, [(places[0], line)], patience(), self._end, calls=_calls)

    def _autopsy(self, place: Place) -> str | None:
        """What the system tells of a process that Lightning started here."""
        launcher = self.trainer.strategy.launcher
        processes = launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []
        process = next((each for each in processes if each.pid == place.pid), None)
        until = time.monotonic() + 1
        while process is not None and time.monotonic() < until:
            if (code := process.poll()) is not None:
                why = " (by hand, or out of memory)" if -code == getattr(signal, "SIGKILL", 0) else ""
                return f"killed by {signal.Signals(-code).name}{why}" if code < 0 else f"it left with exit code {code}"
            time.sleep(0.02)
        return None

    def _end(self, loss: Loss) -> None:
        """End this process, whatever its main thread waits for; in the thread of the watch."""
        rank = self.trainer.global_rank
        heads = self.trainer.local_rank == 0 or rank == 1  # the first that is left, here or on this machine
        if not loss.is_told and (rank == 0 or (loss.rank == 0 and heads)):
            _tell(loss.line)
        if rank == 0:
            if self.trainer.strategy.launcher is not None:  # who is stuck does not end by itself
                self.trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
            with contextlib.suppress(Exception):
                if self._sum_up is not None:
                    self._sum_up(loss.line)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(loss.code)

    def fail(self, error: BaseException) -> None:
        """`error` ends this rank: the others end with it. If it is another's fault, that one is named, not this."""
        watch = self.watch
        if watch is None or not watch.is_alive() or threading.current_thread() is watch:
            return
        if _is_of_others(error):
            watch.join(patience() + 10)
            return
        rank = self.trainer.global_rank
        if not isinstance(error, Exception):
            watch.fail("was interrupted", 128 + signal.SIGINT)
            return
        is_plain = is_users_mistake(error) and not os.environ.get("EPO_DEBUG")
        words = [] if is_plain else [type(error).__name__]
        what = f"failed: {': '.join([*words, *filter(None, [describe(error)])])}"
        if rank and not is_plain:
            traceback.print_exception(error)
            sys.stderr.flush()
        elif not is_plain:  # whose traceback follows
            _tell(f"{Place.here(rank)} {what}")
        watch.fail(what, 2 if is_plain else 1)

    def leave(self) -> None:
        """All is done."""
        if self.watch is not None:
            self.watch.leave()


def _calls() -> int:
    """How many collective calls this rank has entered, which torch counts; 0 where a backend does not."""
    group = dist.group.WORLD
    try:
        return 0 if group is None else int(group._get_sequence_number_for_group())  # type: ignore[attr-defined]
    except RuntimeError:
        return 0


def _tell(line: str) -> None:
    _write(f"error: {line}: all ranks end (what was saved stays)")


def _tell_late(line: str) -> None:
    _write(f"warning: {line}")


def _write(line: str) -> None:
    """Past buffers, which another thread may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"{chr(10) if os.isatty(2) else ''}{line}\n".encode())


def _is_of_others(error: BaseException) -> bool:
    """Whether a collective operation failed since another rank has gone."""
    if isinstance(error, Mistake) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_A_LINE)
