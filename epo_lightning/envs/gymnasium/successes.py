"""Goals that Gymnasium's tasks report.

Shape legend: N environments.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_lightning.limits import Mistake

SUCCESS = ("is_success", "success")
"""Entries of `info` by which tasks report a reached goal."""
_NUMBERS = (float, int, np.float32, np.bool_)
"""Types that need no conversion by numpy; bool is an int, np.float64 a float."""


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
    """Whether one environment's `info` reports a reached goal; None where it does not say.

    Raises:
        Mistake: When it says so by something that is no number.
    """
    reported = None
    for name in SUCCESS:
        value = info.get(name)
        if value is not None:
            flag = number(value)
            if flag is None:
                raise Mistake(f"info[{name!r}] must be a bool or a number, got {type(value).__name__}")
            reported = bool(reported) or (flag != 0.0 and not math.isnan(flag))
    return reported


def goals(infos: Mapping[str, Any], num_envs: int) -> np.ndarray:
    """(N,) bool: whether any of `SUCCESS` is reported, false where an environment does not say.

    Raises:
        Mistake: When one says so by something that is no number.
    """
    reached = np.zeros(num_envs, dtype=bool)
    for name in SUCCESS:
        if name not in infos:
            continue
        values = np.asarray(infos[name])
        if values.dtype == object and values.shape == (num_envs,):
            reached |= np.array([bool(goal_of_one({name: value})) for value in values])
        elif values.dtype.kind in "biuf" and values.size == num_envs:
            values = values.reshape(num_envs)
            reached |= (values != 0) & ~np.isnan(values)
        else:
            what = "dict" if isinstance(infos[name], Mapping) else f"{values.dtype} of shape {values.shape}"
            raise Mistake(f"info[{name!r}] must be a bool or a number, got {what}")
    return reached
