"""What a saved state may hold: finite weights, and only what reads back without running code."""

import io
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from epo_lightning.limits import Mistake

_DEEPEST = 50
"""Levels down which a culprit is searched for: a state that contains itself has no end."""


def tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts, lists and tuples, with its path, such as `ranks[0].obs`."""
    if isinstance(value, Tensor):
        yield name, value
    for path, item in _items(value, name):
        yield from tensors(item, path)


def not_finite(value: object, name: str) -> list[str]:
    """Paths of the floating-point tensors in `value` that hold NaN or infinity; waits for the device once."""
    named = [(path, tensor) for path, tensor in tensors(value, name) if tensor.is_floating_point()]
    if not named:
        return []
    device = max((tensor.device for _, tensor in named), key=lambda device: device.type != "cpu")
    finite = torch.stack([torch.isfinite(tensor).all().to(device, non_blocking=True) for _, tensor in named]).tolist()
    return [path for (path, _), good in zip(named, finite, strict=True) if not good]


def oversized(value: object, name: str) -> list[str]:
    """Paths of the tensors in `value` with more entries than their storage has: torch writes none of that kind."""
    return [path for path, tensor in tensors(value, name) if tensor.nbytes > tensor.untyped_storage().nbytes()]


def require_readable(value: object, name: str, remedy: str) -> None:
    """Refuse a state that could be written, but that `torch.load(weights_only=True)` would not read.

    Numbers of tensors are not checked, so that it costs milliseconds whatever the size.

    Args:
        value: Nested dicts, lists and tuples.
        name: What it is called in the message.
        remedy: End of the message.

    Raises:
        Mistake: Naming the first entry that is neither a tensor nor a plain value.
    """
    if not _reads_back(value):
        path, culprit = _first_unreadable(value, name)
        raise Mistake(
            f"{path} is a {type(culprit).__module__}.{type(culprit).__qualname__}, which a checkpoint cannot give back:"
            f" use tensors, numbers, strings, lists and dicts; {remedy}"
        )


def _first_unreadable(value: object, path: str) -> tuple[str, object]:
    """Path and value of the innermost culprit."""
    for _ in range(_DEEPEST):
        for key in value if isinstance(value, dict) else ():
            if not _reads_back(key):
                return f"the key {key!r} of {path}", key
        inner = next(((where, item) for where, item in _items(value, path) if not _reads_back(item)), None)
        if inner is None:
            break
        path, value = inner
    return path, value


def _items(value: object, name: str) -> list[tuple[str, object]]:
    """The entries of a container with their paths; none of anything else."""
    if isinstance(value, dict):
        return [(f"{name}.{key}" if name else str(key), item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(f"{name}[{index}]", item) for index, item in enumerate(value)]
    return []


def _reads_back(value: object) -> bool:
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols
            torch.save(_without_numbers(value), file)
            file.seek(0)
            torch.load(file, weights_only=True)
    except Exception:  # pickle, torch and whoever wrote the object: a dozen types
        return False
    return True


def _without_numbers(value: object) -> object:
    """The same structure with empty tensors."""
    plain = type(value) in (Tensor, nn.Parameter)
    if plain and isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized:
        return value.detach().new_empty(0, device="cpu")
    if type(value) is dict:
        return {key: _without_numbers(item) for key, item in value.items()}
    if type(value) is list:
        return [_without_numbers(item) for item in value]
    if type(value) is tuple:
        return tuple(_without_numbers(item) for item in value)
    return value
