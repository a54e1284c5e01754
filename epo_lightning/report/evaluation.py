"""What `validate` and `test` wrote beside the checkpoints of a run."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epo_lightning.run.code import Code, code_of

LARGEST = 1e100
"""Of a number: the sum of squares of larger ones is not finite."""
EVALUATIONS = ("last.test.json", "best.test.json", "last.evaluation.json", "best.evaluation.json")
"""Whose numbers are taken, in this order."""


@dataclass(frozen=True)
class Evaluation:
    """What `validate` or `test` wrote beside a checkpoint.

    Attributes:
        file: Its name: `last.test.json`.
        content: As it was written.
        is_stale: The checkpoint was written again since.
    """

    file: str
    content: dict[str, Any]
    is_stale: bool

    @property
    def code(self) -> Code:
        """By which the agents played."""
        return code_of(self.content)

    def mean(self, quantity: str) -> float:
        """Of `return`, `length` or `successes`; NaN where it is not told."""
        told = self.content.get(quantity)
        value = told.get("mean") if isinstance(told, dict) else None
        return float(value) if isinstance(value, int | float) else math.nan


def read_evaluations(checkpoints: Path) -> Iterator[Evaluation]:
    """Those of a folder of checkpoints; what does not read as one is not one."""
    for path in sorted((*checkpoints.glob("*.evaluation.json"), *checkpoints.glob("*.test.json"))):
        try:
            content, written = json.loads(path.read_text(encoding="utf-8")), path.stat().st_mtime
        except (OSError, ValueError):
            continue
        checkpoint = path.with_name(path.name.split(".")[0] + ".ckpt")
        stale = checkpoint.exists() and checkpoint.stat().st_mtime > written + 1
        evaluation = Evaluation(path.name, content if isinstance(content, dict) else {}, stale)
        if abs(evaluation.mean("return")) < LARGEST:
            yield evaluation
