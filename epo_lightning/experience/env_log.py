"""What an environment logs besides its results, averaged over a rollout."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class EnvLog:
    """Mean of each name over the steps in which it was reported; nothing waits for the device.

    A step in which a value (or the mean of its environments) is NaN does not count: that is how a task says that it had
    nothing to report.

    Args:
        device: Where tensors live.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.tensors: dict[str, list[Tensor]] = {}
        self.numbers: dict[str, list[float]] = {}

    def add(self, log: Mapping[str, Any]) -> None:
        """Take in `StepResult.log` of one step: numbers, () and (N,) tensors of any real type."""
        for name, value in log.items():
            if isinstance(value, Tensor):
                # a copy: the environment may overwrite its own in the next step
                self.tensors.setdefault(name, []).append(value.mean(dtype=torch.float32))
            else:
                self.numbers.setdefault(name, []).append(float(value))

    def means(self) -> dict[str, Tensor]:
        """() float32 for each name; NaN where no step counts."""
        steps = {name: torch.stack(values) for name, values in self.tensors.items()}
        for name, numbers in self.numbers.items():
            mine = torch.tensor(numbers, device=self.device)
            steps[name] = torch.cat([steps[name], mine]) if name in steps else mine
        return {name: values.nanmean() for name, values in steps.items()}
