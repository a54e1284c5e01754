"""The line of progress: what it estimates, and where it goes."""

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from epo_lightning.sweep.progress import Going, Screen, remaining_seconds, told_seconds


def test_remaining_time_is_that_of_the_work_and_of_the_longest_run() -> None:
    half_way = Going("a", 0.5, 0.5, 50)  # a whole run takes 100 s
    assert remaining_seconds([half_way], [], {}, 2) == pytest.approx(50)
    assert remaining_seconds([half_way, half_way], [("a", 0.0), ("a", 0.0)], {}, 2) == pytest.approx(150)
    assert remaining_seconds([half_way], [("b", 0.25)], {"b": [200, 400]}, 1) == pytest.approx(50 + 225)
    assert remaining_seconds([], [("c", 0.0)], {"a": [100], "b": [300]}, 1) == pytest.approx(200)
    resumed = Going("a", 0.9, 0.1, 20)  # a tenth in 20 s: a whole run takes 200
    assert remaining_seconds([resumed], [], {}, 1) == pytest.approx(20)


def test_nothing_is_promised_while_nothing_is_known() -> None:
    assert remaining_seconds([Going("a", 0.01, 0.01, 5)], [("a", 0.0)], {}, 1) is None
    assert remaining_seconds([Going("a", None, 0.0, 5)], [], {}, 1) is None
    assert remaining_seconds([], [], {"a": [1]}, 1) == 0


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min"), (3590, "1 h"), (7800, "2 h 10 min"), (273600, "3 d 4 h")],
)
def test_time_is_told_in_words(seconds: float, told: str) -> None:
    assert told_seconds(seconds) == told


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_line_stays_in_its_place_and_within_80_columns() -> None:
    stream = Terminal()
    screen = Screen(stream)
    screen.show("x" * 100)
    screen.show("short")
    screen.say("failed: a")
    shown = stream.getvalue()
    assert shown.startswith(f"\r{'x' * 78}…\rshort")
    assert shown.endswith("\rfailed: a\n")
    assert shown.count("\n") == 1
    assert max(map(len, shown.replace("\n", "\r").split("\r"))) == 79


def test_a_narrow_terminal_gets_a_narrow_line() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        Screen(stream).show("x" * 100)
        assert os.read(ours, 1000).decode() == f"\r{'x' * 38}…"
    os.close(ours)


def test_elsewhere_lines_come_now_and_then() -> None:
    stream, now = io.StringIO(), 0.0
    screen = Screen(stream, lambda: now)
    for second in range(130):
        now = second
        screen.show(f"at {second}", is_news=second == 70)
    assert stream.getvalue().split("\n") == ["at 0", "at 60", "at 70", ""]
