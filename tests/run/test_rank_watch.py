"""Ranks that watch each other: threads here, joined as the processes of a training are."""

import json
import math
import queue
import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from epo_lightning.run import rank_watch
from epo_lightning.run.rank_arrivals import Arrivals
from epo_lightning.run.rank_lines import Place, answer, call, open_door
from epo_lightning.run.rank_watch import Loss, RankWatch, longest_wait, patience

PLACES = [Place(rank, f"node{rank}", 100 + rank) for rank in range(3)]


def _entered(calls: dict[int, int], rank: int) -> int:
    return calls.get(rank, 0)


class Ring:
    """Three ranks, the watch of each, and what each was told of a loss."""

    def __init__(self, limit: float = math.inf, calls: dict[int, int] | None = None, wait: float = math.inf) -> None:
        self.lost: list[queue.Queue[Loss]] = [queue.Queue() for _ in PLACES]
        pairs = {rank: socket.socketpair() for rank in (1, 2)}
        self.ends = {rank: pair[1] for rank, pair in pairs.items()}
        first = [(PLACES[rank], pair[0]) for rank, pair in pairs.items()]
        others = [[(PLACES[0], self.ends[rank])] for rank in (1, 2)]
        self.watches = [
            RankWatch(own, peers, limit, tell.put, calls=partial(_entered, calls or {}, own.rank), wait=wait)
            for own, peers, tell in zip(PLACES, [first, *others], self.lost, strict=True)
        ]

    def told(self, rank: int) -> Loss:
        return self.lost[rank].get(timeout=20)


@pytest.fixture(autouse=True)
def beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_watch, "BEAT", 0.02)


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    yield ring
    for watch in ring.watches:
        watch._over.set()


def test_a_rank_whose_process_is_gone_is_named_to_all(ring: Ring) -> None:
    for watch in ring.watches[:2]:
        watch.start()
    ring.ends[2].close()  # as the system does for a process that dies
    line = "rank 2 (process 102 on node2) died: killed, or out of memory"
    assert ring.told(0) == Loss(2, line)
    assert ring.told(1) == Loss(2, line, is_told=True)  # the first rank tells it


def test_others_learn_that_the_first_rank_is_gone(ring: Ring) -> None:
    ring.watches[1].start()
    for peer in ring.watches[0]._peers:
        peer.line.close()
    assert ring.told(1) == Loss(0, "rank 0 (process 100 on node0) died: killed, or out of memory")


def test_a_rank_without_signs_of_life_is_stuck() -> None:
    ring = Ring(limit=0.2)
    for watch in ring.watches[:2]:  # nobody beats for the third
        watch.start()
    loss = ring.told(0)
    assert (loss.rank, loss.is_stuck, loss.code) == (2, True, 1)
    assert "is stuck: it has given no sign of life for" in loss.line
    assert ring.told(1) == Loss(2, loss.line, is_told=True)


def test_beats_keep_ranks_from_counting_as_stuck() -> None:
    ring = Ring(limit=0.5)
    for watch in ring.watches:
        watch.start()
    threading.Event().wait(1.0)  # twice the limit
    assert [tell.qsize() for tell in ring.lost] == [0, 0, 0]
    leave(ring)


def test_a_rank_that_fails_is_told_by_the_first(ring: Ring) -> None:
    for watch in ring.watches:
        watch.start()
    ring.watches[1].fail("failed: MemoryError", 1)
    assert ring.told(0) == Loss(1, "rank 1 (process 101 on node1) failed: MemoryError")
    assert ring.told(1).is_told  # who failed is told that it is known, and ends
    assert ring.told(2).line == "rank 1 (process 101 on node1) failed: MemoryError"


def test_the_first_rank_tells_its_own_fault(ring: Ring) -> None:
    for watch in ring.watches:
        watch.start()
    ring.watches[0].fail("failed: data.env: broken", 2, seconds=0)
    for rank in (1, 2):
        assert ring.told(rank) == Loss(0, "rank 0 (process 100 on node0) failed: data.env: broken", 2, is_told=True)
    assert ring.lost[0].empty()


def leave(ring: Ring) -> None:
    threads = [threading.Thread(target=watch.leave) for watch in ring.watches]
    for thread in threads:
        thread.start()
    for thread in (*threads, *ring.watches):
        thread.join(20)
        assert not thread.is_alive()


def test_ranks_that_finish_are_not_missed(ring: Ring) -> None:
    for watch in ring.watches:
        watch.start()
    leave(ring)
    assert [tell.qsize() for tell in ring.lost] == [0, 0, 0]


def test_only_who_knows_the_word_is_let_in() -> None:
    door = open_door(["one", "one"])
    host, port = door.getsockname()
    assert host == "127.0.0.1"
    lines: list[tuple[Place, socket.socket]] = []
    porter = threading.Thread(target=lambda: lines.extend(answer(door, "word", PLACES[1:2])))
    porter.start()
    with call(host, port, "wrong", 1) as stranger, call(host, port, "word", 1) as line:
        porter.join(20)
        ((place, inside),) = lines
        assert place == PLACES[1]
        line.sendall(b"hello\n")
        assert inside.recv(100) == b"hello\n"
        assert stranger.recv(100) == b""
        inside.close()


@pytest.mark.parametrize(("said", "seconds"), [(None, 30), ("5", 5), ("0", math.inf), ("x", 30)])
def test_how_long_a_rank_may_be_silent_is_the_users(said: str | None, seconds: float) -> None:
    assert patience({} if said is None else {rank_watch.SILENCE: said}) == seconds


@pytest.mark.parametrize(("said", "seconds"), [(None, 300), ("5", 5), ("0", math.inf), ("x", 300)])
def test_how_long_others_wait_for_a_rank_is_the_users(said: str | None, seconds: float) -> None:
    assert longest_wait({} if said is None else {rank_watch.LAG: said}) == seconds


class TestWaiting:
    """Ranks that all give signs of life, and have entered so many collective calls."""

    @pytest.mark.parametrize("hangs", [0, 2])
    def test_a_rank_that_does_not_come_to_the_others_call_is_stuck(self, hangs: int) -> None:
        calls = {rank: 7 - (rank == hangs) for rank in range(3)}
        ring, late = Ring(calls=calls, wait=0.5), queue.Queue[str]()
        ring.watches[0]._on_late = late.put
        for watch in ring.watches:
            watch.start()
        loss = ring.told(0)
        assert (loss.rank, loss.is_stuck, loss.is_told) == (hangs, True, False)
        assert loss.line.startswith(
            f"rank {hangs} (process 10{hangs} on node{hangs}) is stuck: the others have waited "
        )
        assert ring.told(1) == Loss(hangs, loss.line, is_told=True)
        assert late.qsize() == 0  # a minute has not gone by

    def test_the_user_is_told_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rank_watch, "_NOTICE", 0.1)
        ring, late = Ring(calls={0: 7, 1: 7, 2: 6}, wait=1.0), queue.Queue[str]()
        ring.watches[0]._on_late = late.put
        for watch in ring.watches:
            watch.start()
        assert ring.told(0).rank == 2
        assert late.get(timeout=20).endswith("for it in a collective call; EPO_RANK_LAG ends all after 1 s")
        assert late.qsize() == 0  # once

    def test_ranks_that_get_on_are_not_stuck(self) -> None:
        calls = {0: 9, 1: 9, 2: 1}
        ring = Ring(calls=calls, wait=0.5)
        for watch in ring.watches:
            watch.start()
        for _ in range(5):
            threading.Event().wait(0.2)
            calls[2] += 1  # slow, and twice the limit in all
        assert [tell.qsize() for tell in ring.lost] == [0, 0, 0]
        leave(ring)

    def test_all_may_compute_as_long_as_they_like(self) -> None:
        ring = Ring(calls={0: 7, 1: 7, 2: 7}, wait=0.2)
        for watch in ring.watches:
            watch.start()
        threading.Event().wait(0.6)
        assert [tell.qsize() for tell in ring.lost] == [0, 0, 0]
        leave(ring)

    def test_nobody_waits_for_who_has_ended(self) -> None:
        arrivals = Arrivals()
        for place, calls in zip(PLACES, (7, 7, 6), strict=True):
            arrivals.note(place, calls)
        assert [*arrivals.wait(2.0)] == [(PLACES[2], 2.0)]
        assert [*arrivals.wait(2.0)] == [(PLACES[2], 4.0)]
        arrivals.forget(PLACES[2])
        assert [*arrivals.wait(2.0)] == []


def test_a_message_is_one_line() -> None:
    first, second = socket.socketpair()
    with first, second:
        rank_watch._Peer(PLACES[1], first).send(fault="two\nlines", code=2)
        assert json.loads(second.recv(100)) == {"fault": "two\nlines", "code": 2}
