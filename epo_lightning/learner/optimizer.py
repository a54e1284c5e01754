"""Adam with a learning rate that lives on the device and follows the KL divergence.

Shape legend: K agents, M replaced agents.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from epo_lightning.limits import require_range

KL_HIGH, KL_LOW = 2.0, 0.5
"""Multiples of `target_kl` above which the learning rate falls, and below which it rises."""
RATE_FACTOR = 1.5
"""What the learning rate is then divided by, or multiplied with."""
NORM_FLOOR = 1e-6
"""Added to the norm of the gradient before it divides, as torch's own clipping does."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Step size of Adam.

    Args:
        learning_rate: Initial learning rate.
        target_kl: The learning rate is divided by 1.5 after a pass over the data with a mean KL above twice this
            value, and multiplied by 1.5 after one below half of it; null keeps it constant.
        learning_rate_min: Lower bound of the adaptive learning rate.
        learning_rate_max: Upper bound of the adaptive learning rate.
        max_grad_norm: The gradient is scaled down to this norm.
    """

    learning_rate: float = 3e-4
    target_kl: float | None = 0.016
    learning_rate_min: float = 1e-6
    learning_rate_max: float = 1e-2
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        key = "model.optimizer"
        for name in ("learning_rate", "learning_rate_min", "learning_rate_max", "max_grad_norm"):
            require_range(f"{key}.{name}", getattr(self, name), 0, open_low=True)
        if self.target_kl is not None:
            require_range(f"{key}.target_kl", self.target_kl, 0, open_low=True)
            require_range(f"{key}.learning_rate", self.learning_rate, self.learning_rate_min, self.learning_rate_max)


@dataclass(frozen=True)
class GeneOptimizerSettings(OptimizerSettings):
    """The same of agents that share one network and have a gene of their own.

    Args:
        gene_rate: Step size of genes, as a multiple of the network's. Adam's steps are as large whatever the gradient
            is, and that of a gene comes from its agent's samples alone, 1 / K of them: full steps are mostly noise.
            1 / sqrt(K) allows for it; 0 leaves genes to the genetic algorithm.
    """

    gene_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("model.optimizer.gene_rate", self.gene_rate, 0, 1)


def build_adam(parameters: Iterable[nn.Parameter], settings: OptimizerSettings, *, fused: bool) -> torch.optim.Adam:
    """Adam whose learning rate is a tensor on the device: adapting it needs no synchronisation.

    Args:
        parameters: What to optimise.
        settings: See `OptimizerSettings`.
        fused: One kernel for all parameters. Lightning cannot clip gradients of a fused optimizer under fp16 scaling.
    """
    parameters = list(parameters)
    learning_rate = torch.tensor(settings.learning_rate, device=parameters[0].device)
    adam = torch.optim.Adam(parameters, lr=learning_rate, fused=fused, capturable=not fused)
    adam.param_groups[0]["initial_lr"] = settings.learning_rate
    return adam


def make_recordable(adam: torch.optim.Adam) -> None:
    """Let the steps of `adam` be recorded as a CUDA graph; its step counts are on the device already."""
    for settings in (adam.defaults, *adam.param_groups):
        settings["capturable"] = True


@torch.no_grad()
def restart_adam(adam: torch.optim.Adam, settings: OptimizerSettings) -> None:
    """Make a restored `adam` obey `settings` where they are not those under which its state was saved.

    A learning rate set anew is where adaptation goes on from; new bounds hold at once. Moments stay.
    """
    for group in adam.param_groups:
        group["lr"] = group["lr"].to(group["params"][0].device)
        if group["initial_lr"] != settings.learning_rate:
            group["lr"].fill_(settings.learning_rate)
            group["initial_lr"] = settings.learning_rate
        if settings.target_kl is not None:
            group["lr"].clamp_(settings.learning_rate_min, settings.learning_rate_max)
        group |= {name: adam.defaults[name] for name in ("fused", "capturable")}  # follow `trainer.precision`


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `max_norm`; returns the norm before, a scalar tensor.

    The same as `torch.nn.utils.clip_grad_norm_`, in half its time for small networks.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + NORM_FLOOR)).clamp(max=1.0))
    return norm


@torch.no_grad()
def take_step(optimizer: torch.optim.Optimizer) -> None:
    """As `optimizer.step()`, to the bit; of a fused Adam on a CPU only the kernels, in half the time of small networks.

    What is left out looks for hooks, options and the first step in every step. Whoever needs that calls `step`.
    """
    group = optimizer.param_groups[0]
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    states = [optimizer.state[parameter] for parameter in parameters]
    if not (_is_plain_adam(optimizer) and all(states)):  # torch makes the states in the first step
        optimizer.step()
        return
    steps = [state["step"] for state in states]
    torch._foreach_add_(steps, 1)
    torch._fused_adam_(
        parameters,
        [parameter.grad for parameter in parameters],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        steps,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=group["maximize"],
    )


@contextmanager
def slowed(parameters: Sequence[nn.Parameter], rate: float) -> Iterator[None]:
    """Inside, a step moves `parameters` by `rate` times what it would, as if Adam's learning rate was so much less."""
    if rate == 1.0:
        yield
        return
    with torch.no_grad():
        before = [parameter.clone() for parameter in parameters]
        yield
        torch._foreach_lerp_(list(parameters), before, 1.0 - rate)


def _is_plain_adam(optimizer: torch.optim.Optimizer) -> bool:
    group = optimizer.param_groups[0]
    return (
        type(optimizer) is torch.optim.Adam
        and len(optimizer.param_groups) == 1
        and group["params"][0].device.type == "cpu"
        and bool(group["fused"])
        and not group["amsgrad"]
    )


def adapt_learning_rate(learning_rate: Tensor, kl: Tensor, settings: OptimizerSettings) -> None:
    """Change `learning_rate` (scalar tensor) in place by the mean KL (scalar tensor) of the last pass over the data."""
    if settings.target_kl is None:
        return
    rise = torch.where(kl < KL_LOW * settings.target_kl, RATE_FACTOR, 1.0)
    factor = torch.where(kl > KL_HIGH * settings.target_kl, 1 / RATE_FACTOR, rise)
    learning_rate.mul_(factor).clamp_(settings.learning_rate_min, settings.learning_rate_max)
