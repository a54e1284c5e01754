"""A weight that falls to nothing while a training goes on: linearly in env steps."""

from epo_lightning.limits import Mistake, require_range

KEY = "model.loss.entropy_anneal"


def require_interval(interval: tuple[int, int] | None) -> None:
    """Refuse two numbers of env steps between which nothing can fall.

    Raises:
        Mistake: When one is negative, or the second one not above the first.
    """
    if interval is None:
        return
    begin, end = interval
    require_range(f"{KEY} (its first)", begin, 0)
    if end <= begin:
        raise Mistake(f"{KEY}: the second number of env steps must be above the first, got [{begin}, {end}]")


def share_left(env_steps: int, interval: tuple[int, int] | None) -> float:
    """What is left of the weight after `env_steps`: 1 until the interval begins, 0 from its end on; 1 without one."""
    if interval is None:
        return 1.0
    begin, end = interval
    return min(max((end - env_steps) / (end - begin), 0.0), 1.0)
