"""The clock over env steps, by hand."""

from epo_lightning.run.every import Every


def times(clock: Every, until: int, step: int) -> list[int]:
    """When `clock` strikes, looked at after every `step` env steps."""
    struck = []
    for now in range(clock.last + step, until + 1, step):
        if clock.is_due(now):
            clock.restart(now)
            struck.append(now)
    return struck


def test_counts_from_the_last_time() -> None:
    # due at 100, seen at 128; due at 228, seen at 256
    assert times(Every(100), 384, 64) == [128, 256, 384]
    assert times(Every(64), 192, 64) == [64, 128, 192]
    assert times(Every(1000), 999, 333) == []


def test_a_resumed_clock_goes_on() -> None:
    first = Every(100)
    assert times(first, 192, 64) == [128]
    second = Every(100)
    second.load_state_dict(first.state_dict())
    assert not second.is_due(227)
    assert second.is_due(228)


def test_another_interval_counts_from_the_last_time_too() -> None:
    first = Every(1000)
    first.restart(500)
    for interval in (100, 2000):
        second = Every(interval)
        second.load_state_dict(first.state_dict())
        assert not second.is_due(500 + interval - 1)
        assert second.is_due(500 + interval)
