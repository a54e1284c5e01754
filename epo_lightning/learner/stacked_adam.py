"""Adam for K networks that share nothing: each has its own learning rate, gradient norm and count of steps.

Shape legend: K networks, A of them that take a step, P parameters of a network.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from epo_lightning.learner.optimizer import KL_HIGH, KL_LOW, NORM_FLOOR, RATE_FACTOR


class Pace(NamedTuple):
    """Learning rates, and norms to which gradients are scaled down, (A,) each."""

    learning_rate: Tensor
    max_grad_norm: Tensor


class StackedAdam(torch.optim.Optimizer):
    """Adam (arXiv 1412.6980) over parameters (K, ...), row k of which are network k's.

    Its two moments are (K, P) tensors of all parameters on end, its count of steps is (K,).

    Args:
        parameters: Those that learn.
        betas: Decay of the moments.
        eps: Added to the root of the second moment.

    Attributes:
        moments: `exp_avg` and `exp_avg_sq` (K, P), and `step` (K,).
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(parameters, {"betas": betas, "eps": eps, "lr": 0.0})
        (group,) = self.param_groups
        self._parameters: list[nn.Parameter] = group["params"]
        self._sizes = [parameter[0].numel() for parameter in self._parameters]
        first = self._parameters[0]
        zeros = torch.zeros(len(first), sum(self._sizes), device=first.device)
        self.state[first] = {"exp_avg": zeros, "exp_avg_sq": zeros.clone(), "step": zeros.new_zeros(len(first))}

    @property
    def moments(self) -> dict[str, Tensor]:
        """What it keeps of every network."""
        kept: dict[str, Tensor] = self.state[self._parameters[0]]
        return kept

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """There is none without learning rates.

        Raises:
            NotImplementedError: Always; see `advance`.
        """
        raise NotImplementedError("StackedAdam.advance takes the steps")

    @torch.no_grad()
    def advance(self, pace: Pace, networks: Tensor | None = None) -> Tensor:
        """One step of some networks; the others, their moments and their counts are left as they are.

        Args:
            pace: How far each of them goes.
            networks: (A,) which ones; None for all.

        Returns:
            (A,) the gradients' norms before they were clipped.
        """
        (group,) = self.param_groups
        beta1, beta2 = group["betas"]
        gradient, kept = _on_end(parameter.grad for parameter in self._parameters), self.moments
        first, second, count = kept["exp_avg"], kept["exp_avg_sq"], kept["step"]
        if networks is not None:
            gradient, first, second, count = (each[networks] for each in (gradient, first, second, count))
        norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        gradient.mul_((pace.max_grad_norm.float() / (norm + NORM_FLOOR)).clamp(max=1.0).unsqueeze(1))
        count += 1
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # w -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
        steps = count.double()
        root = (1 - beta2**steps).sqrt()
        rate = (pace.learning_rate * root / (1 - beta1**steps)).float().unsqueeze(1)
        floor = (group["eps"] * root).float().unsqueeze(1)
        change = torch.sqrt(second, out=gradient).add_(floor)
        torch.div(first, change, out=change).mul_(rate)
        if networks is not None:
            kept["exp_avg"][networks], kept["exp_avg_sq"][networks], kept["step"][networks] = first, second, count
        for parameter, part in zip(self._parameters, change.split(self._sizes, dim=1), strict=True):
            part = part.view(-1, *parameter.shape[1:])
            if networks is None:
                parameter.sub_(part)
            else:
                parameter.index_add_(0, networks, part, alpha=-1)
        return norm

    @torch.no_grad()
    def copy_networks(self, networks: Tensor, sources: Tensor) -> None:
        """`networks` (M,) go on with what is known of `sources` (M,)."""
        for table in self.moments.values():
            table[networks] = table[sources]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As any optimizer's; counts and moments stay where the parameters are."""
        super().load_state_dict(state_dict)
        self._parameters = self.param_groups[0]["params"]
        device = self._parameters[0].device
        self.state[self._parameters[0]] = {name: value.to(device) for name, value in self.moments.items()}


def adapted_rates(learning_rate: Tensor, kl: Tensor, target_kl: Tensor, bounds: tuple[float, float]) -> Tensor:
    """(A,) learning rates after a pass over the data; those whose target is NaN stay as they are.

    Args:
        learning_rate: (A,).
        kl: (A,) mean KL divergence of the pass.
        target_kl: (A,).
        bounds: Of the adaptive learning rate.
    """
    rise, fall = kl < KL_LOW * target_kl, kl > KL_HIGH * target_kl
    factor = torch.ones_like(learning_rate).masked_fill(rise, RATE_FACTOR).masked_fill(fall, 1 / RATE_FACTOR)
    return torch.where(target_kl.isnan(), learning_rate, (learning_rate * factor).clamp(*bounds))


def _on_end(gradients: Iterable[Tensor | None]) -> Tensor:
    """(K, P) of (K, ...) each: a copy."""
    parts = [gradient.flatten(1) for gradient in gradients if gradient is not None]
    return torch.cat(parts, dim=1)
