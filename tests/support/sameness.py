"""Whether two runs ended alike, to the bit."""

from pathlib import Path
from typing import Any

import torch

from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from epo_lightning.modules.contents import HISTORY
from epo_lightning.run.checkpoint import read_checkpoint


def differences(a: object, b: object, where: str = "") -> list[str]:
    """Where two of them differ in a bit, entry by entry; NaN is NaN."""
    if type(a) is not type(b):
        return [f"{where}: {type(a).__name__}, {type(b).__name__}"]
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{where}: {sorted(map(str, a.keys() ^ b.keys()))} on one side only"]
        return [line for key in a for line in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return [f"{where}: {len(a)}, {len(b)} entries"]
        pairs = enumerate(zip(a, b, strict=True))
        return [line for i, (one, other) in pairs for line in differences(one, other, f"{where}[{i}]")]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | (a != a) & (b != b)).all())
    else:
        same = a == b or (a != a and b != b)
    return [] if same else [f"{where}: {str(a)[:80]}, {str(b)[:80]}"]


def assert_same(a: object, b: object) -> None:
    """Equal to the bit."""
    found = differences(a, b)
    assert not found, "\n".join(found)


def final_state(folder: str) -> dict[str, Any]:
    """The last checkpoint of a run, without its configuration, and without how often it was continued and when."""
    checkpoint = read_checkpoint(Path(folder) / "checkpoints/last.ckpt")
    del checkpoint[CONFIG_KEY], checkpoint[HISTORY]
    return checkpoint
