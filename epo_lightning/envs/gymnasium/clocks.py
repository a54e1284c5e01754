"""The clocks of Gymnasium's time limits, set from outside: the `HeldCopy` around each copy knows its limit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv as GymnasiumVector


def set_clocks(vector: "GymnasiumVector", over: Sequence[float], made_here: bool) -> bool:
    """Let the shares `over` (N) of the time limits of the running episodes be over; whether that was possible.

    Args:
        vector: N environments.
        over: For each of them.
        made_here: Its copies are each in a `HeldCopy`; else only those in this process are.
    """
    from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

    copies = vector.unwrapped
    if not isinstance(copies, (SyncVectorEnv, AsyncVectorEnv) if made_here else SyncVectorEnv):
        return False
    if None in copies.get_attr("share_over"):
        return False
    copies.set_attr("share_over", list(over))
    return True
