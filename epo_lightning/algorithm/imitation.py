"""The best of a rollout is imitated: what turned out better than expected is not lost again (arXiv 1806.05635).

Shape legend: T horizon, N environments, C imitated columns, K agents.
"""

import torch
from torch import Tensor

from epo_lightning.algorithm.coupling import coupling_loss
from epo_lightning.algorithm.population import Population


def imitated_columns(num_envs: int, coefficient: float, fraction: float) -> int:
    """C: 0 without imitation, else `fraction` of the environments, at least 1."""
    return max(1, round(fraction * num_envs)) if coefficient > 0 and fraction > 0 else 0


def best_transitions(surplus: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """(T, C) step and (T, C) environment of the transitions with the largest `surplus` (T, N), best first."""
    horizon, envs = surplus.shape
    best = surplus.flatten().topk(horizon * columns).indices.view(horizon, columns)
    return best // envs, best % envs


def best_sequences(surplus: Tensor, columns: int) -> Tensor:
    """(C,) the environments with the largest sum of what is positive in their `surplus` (T, N)."""
    return surplus.clamp(min=0.0).sum(0).topk(columns).indices


def draw_imitators(population: Population, columns: int, generator: torch.Generator) -> Tensor:
    """(C,) who imitates each column: each agent equally many, to one, in a new random order."""
    order = torch.randperm(population.num_agents, generator=generator, device=generator.device)
    return order[torch.arange(columns, device=generator.device) % len(order)]


def imitation_loss(log_probs: Tensor, log_mu: Tensor, advantages: Tensor, temperature: float) -> Tensor:
    """(...,) min(1, mu) times the coupling loss where the return was above the imitator's value, else 0."""
    weight = log_mu.clamp(max=0.0).exp().masked_fill(advantages <= 0, 0.0)
    return weight * coupling_loss(log_probs, advantages, temperature)
