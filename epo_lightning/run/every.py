"""When something that happens now and then in a training is due again."""

from typing import Any


class Every:
    """A clock over env steps, which counts from the last time; before the first one, from the beginning of the run.

    The interval is a setting and no part of the state: a resumed run may have another one, which counts from the last
    time, too.

    Args:
        env_steps: The interval.

    Attributes:
        last: Env steps at the last time.
    """

    def __init__(self, env_steps: int) -> None:
        self.env_steps = env_steps
        self.last = 0

    def is_due(self, now: int) -> bool:
        """Whether the interval has passed, with `now` env steps made."""
        return now - self.last >= self.env_steps

    def restart(self, now: int) -> None:
        """It has happened, with `now` env steps made."""
        self.last = now

    def state_dict(self) -> dict[str, Any]:
        """The last time."""
        return {"last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict`, with the interval of this clock."""
        self.last = state_dict["last"]
