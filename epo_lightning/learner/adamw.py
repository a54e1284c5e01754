"""AdamW for several networks that learn in turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from epo_lightning.limits import require_range


@dataclass(frozen=True)
class AdamWSettings:
    """Step size of AdamW, and how often it steps.

    Args:
        learning_rate: Of everything that learns.
        betas: Decay of AdamW's two moments.
        weight_decay: Of the networks' weights; the temperature's does not decay.
        max_grad_norm: Gradients of the critics, and those of the actor, are scaled down to this norm; inf for never.
        updates_per_step: Updates of the critics after each env step of all environments.
        actor_every: The actor learns in every so manyth update of an iteration.
    """

    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-3
    max_grad_norm: float = float("inf")
    updates_per_step: int = 8
    actor_every: int = 4

    def __post_init__(self) -> None:
        key = "model.optimizer"
        for name in ("learning_rate", "max_grad_norm"):
            require_range(f"{key}.{name}", getattr(self, name), 0, open_low=True)
        for beta in self.betas:
            require_range(f"{key}.betas", beta, 0, 0.9999)
        require_range(f"{key}.weight_decay", self.weight_decay, 0)
        for name in ("updates_per_step", "actor_every"):
            require_range(f"{key}.{name}", getattr(self, name), 1)


def build_adamw(
    decayed: Mapping[str, Sequence[nn.Parameter]], free: Sequence[nn.Parameter], settings: AdamWSettings
) -> torch.optim.AdamW:
    """One fused AdamW; what has no gradient in a step is left alone by it.

    Args:
        decayed: Parameters by network, a group each.
        free: Parameters whose weights do not decay.
        settings: See `AdamWSettings`.
    """
    groups = [{"params": list(parameters)} for parameters in decayed.values()]
    groups.append({"params": list(free), "weight_decay": 0.0})  # type: ignore[dict-item]
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )


def restart_adamw(adamw: torch.optim.AdamW, settings: AdamWSettings) -> None:
    """Make a restored `adamw` obey `settings`, whatever those under which its state was saved; moments stay."""
    for group in adamw.param_groups[:-1]:
        group["weight_decay"] = settings.weight_decay
    for group in adamw.param_groups:
        group |= {"lr": settings.learning_rate, "betas": settings.betas, "fused": True}
