"""Goals that Gymnasium's tasks tell of.

Shape legend: N environments.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_lightning.limits import Mistake

SUCCESS = ("is_success", "success")
"""Entries of `info` by which tasks tell that a goal is reached."""
_NUMBERS = (float, int, np.float32, np.bool_)
"""What needs no further look; bool is an int, np.float64 a float."""


def number(value: object) -> float | None:
    """`value` as a float where it is one number, also in an array of size 1; else None."""
    if isinstance(value, _NUMBERS):
        return float(value)
    try:
        array = np.asarray(value)
    except Exception:  # whatever a foreign object raises
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "biuf" else None


def goal_of_one(info: Mapping[str, Any]) -> bool | None:
    """Whether one environment's `info` tells of a reached goal; None where it does not say.

    Raises:
        Mistake: When it says so by something that is no number.
    """
    told = None
    for name in SUCCESS:
        value = info.get(name)
        if value is not None:
            flag = number(value)
            if flag is None:
                raise Mistake(f"info[{name!r}] must be a bool or a number, got {type(value).__name__}")
            told = bool(told) or (flag != 0.0 and not math.isnan(flag))
    return told


def goals(infos: Mapping[str, Any], num_envs: int) -> np.ndarray:
    """(N,) bool: whether any of `SUCCESS` is told, false where an environment does not say.

    Raises:
        Mistake: When one says so by something that is no number.
    """
    reached = np.zeros(num_envs, dtype=bool)
    for name in SUCCESS:
        if name not in infos:
            continue
        told = np.asarray(infos[name])
        if told.dtype == object and told.shape == (num_envs,):
            reached |= np.array([bool(goal_of_one({name: value})) for value in told])
        elif told.dtype.kind in "biuf" and told.size == num_envs:
            told = told.reshape(num_envs)
            reached |= (told != 0) & ~np.isnan(told)
        else:
            what = "dict" if isinstance(infos[name], Mapping) else f"{told.dtype} of shape {told.shape}"
            raise Mistake(f"info[{name!r}] must be a bool or a number, got {what}")
    return reached
