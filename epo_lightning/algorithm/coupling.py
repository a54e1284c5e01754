"""Followers coupled to the master: they imitate what it did well (CPO, arXiv 2603.01741).

Shape legend: N environments, K agents, E environments of an agent, M followers that see each of the master's, C = E M.

Of all policies within a KL of the master's, the best one is in proportion to pi_0 exp(A / lambda). Each follower is
drawn towards it by weighted regression on the master's transitions: samples of followers that stay near are worth more
to the master.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.population import MASTER, Population

WEIGHT_MAX = 100.0
"""The most that a transition of the master weighs."""


class Coupled(NamedTuple):
    """Which of the master's environments is seen under whose gene: (C,) int64 each."""

    env: Tensor
    agent: Tensor


def coupled_followers(num_agents: int, coefficient: float, followers: int) -> int:
    """M: 0 without coupling, else `followers`, or all of them where there are fewer."""
    return min(followers, num_agents - 1) if coefficient > 0 else 0


def draw_coupled(population: Population, followers: int, generator: torch.Generator) -> Coupled:
    """Deal the followers, in a new random order, to the master's environments.

    Each environment gets M different followers, and each follower equally many environments, to one.

    Args:
        population: Who acts where.
        followers: M, at most K - 1.
        generator: Source of randomness; its device is that of the results.
    """
    device, others = generator.device, len(population.followers)
    columns = torch.arange(population.master_envs * followers, device=device)
    order = torch.randperm(others, generator=generator, device=device) + MASTER + 1
    return Coupled(columns // followers, order[columns % others])


def coupling_weight(population: Population, off_policy_columns: int, coefficient: float) -> float:
    """Of the mean coupling loss beside the mean of all other samples' losses.

    With it a transition of the master has the weight beta, for each of the K - 1 followers, where any other sample has
    1; which and how many followers are drawn does not change the expectation.

    Args:
        population: Who acts where.
        off_policy_columns: Environments' worth of samples that the master gets from followers.
        coefficient: beta.
    """
    master_rows = population.master_envs * len(population.followers)
    return coefficient * master_rows / (population.num_envs + off_policy_columns)


def coupling_loss(log_probs: Tensor, advantages: Tensor, temperature: float) -> Tensor:
    """-min(exp(A / lambda), 100) log pi(a|s, phi_k) per sample.

    Args:
        log_probs: (...,) of the master's actions under the follower.
        advantages: (...,) normalised, of the master's actions by the follower's critic.
        temperature: lambda.
    """
    return -(advantages / temperature).clamp(max=math.log(WEIGHT_MAX)).exp() * log_probs
