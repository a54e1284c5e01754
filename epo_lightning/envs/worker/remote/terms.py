"""What the managers of Isaac Lab and mjlab say of the entries of observations and actions: the names of their terms."""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from .observed import Part


def observation_terms(base: Any, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Of each part that actors see, in order, its terms; the part itself where no manager knows them.

    Args:
        base: The environment.
        parts: Of its observations.
    """
    manager = getattr(base, "observation_manager", None)
    terms: list[dict[str, Any]] = []
    seen = [part for part in parts if not part.privileged]
    for part in seen:
        names = list(getattr(manager, "active_terms", {}).get(part.group, ()))
        widths = [int(np.prod(shape)) for shape in getattr(manager, "group_obs_term_dim", {}).get(part.group, ())]
        known = len(names) == len(widths) and sum(widths) == part.size and min(widths, default=0) > 0
        owner = f"{part.group}." if len(seen) > 1 else ""
        if part.is_image:
            height, width, channels = part.image
            shape = f"image {height} x {width} x {channels}, row by row"
            meaning = f"{shape}; bytes, or what the task gives times 255"
            terms.append({"name": part.label, "size": part.size, "meaning": meaning})
        elif known:
            terms += [{"name": owner + name, "size": width} for name, width in zip(names, widths)]
        else:
            terms.append({"name": part.label, "size": part.size})
    return terms


def action_terms(base: Any, low: np.ndarray, high: np.ndarray) -> list[dict[str, Any]]:
    """Each term with what it is given for -1 and for 1; one signal where no manager knows them.

    Args:
        base: The environment.
        low: (A,) what the task is given for -1.
        high: (A,) the same for 1.
    """
    manager: Any = getattr(base, "action_manager", None)
    names = list(getattr(manager, "active_terms", ()))
    widths = [int(width) for width in getattr(manager, "action_term_dim", ())]
    if len(names) != len(widths) or sum(widths) != len(low) or min(widths, default=0) < 1:
        names, widths, manager = ["action"], [len(low)], None
    terms, start = [], 0
    for name, width in zip(names, widths):
        columns = slice(start, start + width)
        term: dict[str, Any] = {
            "name": name,
            "size": width,
            "low": low[columns].tolist(),
            "high": high[columns].tolist(),
        }
        term["meaning"] = _meaning(manager.get_term(name), width) if manager is not None else "what the task is given"
        terms.append(term)
        start += width
    return terms


def _meaning(term: Any, width: int) -> str:
    """What becomes of the numbers x that a term of actions is given, as far as it tells."""
    targets: Any = getattr(term, "target_names", None) or getattr(term, "_joint_names", None)  # mjlab's, Isaac Lab's
    named = isinstance(targets, (list, tuple)) and len(targets) == width
    whose = f" for {', '.join(map(str, targets))}" if named else ""
    scale, offset = (_row(term, name, width) for name in ("scale", "offset"))
    if scale is None or offset is None:
        return f"what the task is given{whose}, before its own scale and offset"
    return f"x{whose}; the task takes x * scale + offset: scale {_listed(scale)}; offset {_listed(offset)}"


def _row(term: Any, name: str, width: int) -> np.ndarray | None:
    """(A,) the scale or the offset of a term, where it is the same in every environment."""
    value = getattr(term, name, getattr(term, f"_{name}", None))
    if value is None or isinstance(value, (str, bool)):
        return None
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        rows = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    if rows.ndim == 2 and len(rows) and (rows == rows[0]).all():
        rows = rows[0]
    return np.broadcast_to(rows, (width,)) if rows.shape in ((), (width,)) else None


def _listed(values: np.ndarray) -> str:
    """The numbers; one of them where all are alike."""
    numbers = [f"{value:.6g}" for value in values]
    return numbers[0] if len(set(numbers)) == 1 else ", ".join(numbers)
