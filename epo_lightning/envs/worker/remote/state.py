"""A simulator's state as bytes, and back."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

from .memory import as_array
from .mistakes import Mistake


def pack(state: object) -> bytes:
    """A state as bytes: a tree in JSON whose leaves that JSON does not know are arrays of an .npz file.

    Raises:
        Mistake: When something in it is neither plain nor an array.
    """
    arrays: list[np.ndarray] = []

    def node(value: object, path: str) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise Mistake(f"data.env: the keys of {path} must be strings")
            return {"dict": {key: node(item, f"{path}[{key!r}]") for key, item in value.items()}}
        if isinstance(value, (list, tuple)):
            return {"list": [node(item, f"{path}[{i}]") for i, item in enumerate(value)]}
        kind = "bytes" if isinstance(value, bytes) else "array"
        array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else as_array(value)
        if array.dtype.hasobject:
            raise Mistake(f"data.env: {path} must be an array, a number, a string or bytes, not {type(value).__name__}")
        arrays.append(array)
        return {kind: len(arrays) - 1}

    tree = json.dumps(node(state, "state()")).encode()
    file = io.BytesIO()
    np.savez(file, np.frombuffer(tree, np.uint8), *arrays)
    return file.getvalue()


def unpack(blob: bytes) -> Any:
    """The state that `pack` was given; tuples have become lists, tensors numpy arrays."""
    with np.load(io.BytesIO(blob), allow_pickle=False) as file:
        first, *arrays = [file[f"arr_{i}"] for i in range(len(file.files))]

    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind == "dict":
            return {key: value(item) for key, item in content.items()}
        if kind == "list":
            return [value(item) for item in content]
        return arrays[content].tobytes() if kind == "bytes" else arrays[content]

    return value(json.loads(first.tobytes()))
