"""The population's data for the master: which samples, and how they are relabelled (EPO section 4.2, SAPG).

Shape legend: N environments, K agents, T horizon, M samples.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.losses import LOG_RATIO_MAX
from epo_lightning.algorithm.population import MASTER, Population
from epo_lightning.limits import Mistake

OffPolicySource = Literal["all", "one_agent"]


class Relabelled(NamedTuple):
    """Followers' samples as the master sees them; log_probs and log_mu have one shape, whatever it is.

    Attributes:
        log_probs: log pi_old(a|s, phi_j) of the follower that acted, raised where mu was capped.
        log_mu: log mu = log pi_old(a|s, phi_0) - log_probs.
    """

    log_probs: Tensor
    log_mu: Tensor


def off_policy_envs(population: Population, ratio: float, source: OffPolicySource) -> int:
    """How many environments' worth of followers' data the master gets: `ratio` times its own, rounded.

    Raises:
        Mistake: When the source does not have that much, or a ratio that is not 0 comes to none.
    """
    if population.num_agents == 1:
        return 0
    sources = 1 if source == "one_agent" else len(population.followers)
    there, block = sources * population.envs_per_follower, population.master_envs
    if ratio * block > there:
        raise Mistake(
            f"model.rollout.off_policy_ratio must be at most {math.floor(1e4 * there / block) / 1e4:g} with"
            f" {population.num_agents} agents and off_policy_source '{source}'{_share(population)}, got {ratio}"
        )
    count = math.floor(ratio * block + 0.5)
    if ratio > 0 and not count:
        smallest = math.ceil(5000 / block) / 10000  # half an environment, to four digits
        raise Mistake(
            f"model.rollout.off_policy_ratio {ratio:g} gives the master no sample with {block} environment(s) of"
            f" its own on a rank: use at least {smallest:g}, or 0 for none, or more data.num_envs"
        )
    return count


def _share(population: Population) -> str:
    share = population.master_share
    return "" if share is None else f", where the master has {share:g} of the environments (model.rollout.master_share)"


def sample_followers(
    population: Population, count: int, steps: int, source: OffPolicySource, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw `count` samples without replacement from the followers' `steps` x environments.

    Args:
        population: Which agent owns which environment.
        count: M, samples to draw.
        steps: T for single transitions; 1 to draw whole sequences.
        source: `all` draws uniformly from all followers, `one_agent` from one random follower (the released code).
        generator: Source of randomness; its device is that of the results.

    Returns:
        (M,) step and (M,) environment of each sample.
    """
    device = generator.device
    block, own = population.envs_per_follower, population.master_envs
    if source == "one_agent":
        agent = torch.randint(MASTER + 1, population.num_agents, (1,), generator=generator, device=device)
        width, first = block, own + (agent - 1) * block
    else:
        width, first = population.num_envs - own, torch.full((1,), own, device=device)
    drawn = torch.randperm(steps * width, generator=generator, device=device)[:count]
    return drawn // width, drawn % width + first


def relabel(master_log_probs: Tensor, behaviour_log_probs: Tensor, mu_cap: float) -> Relabelled:
    """Importance weights of followers' actions for the master, truncated at `mu_cap` (inf: the paper).

    mu = pi_old(a|s, phi_0) / pi_old(a|s, phi_j) is the weight with which a sample starts (EPO eq. 4). Above the cap it
    is lowered to the cap, by a behaviour log-probability higher than the true one, so that r is still mu at the first
    update.
    """
    log_mu = (master_log_probs - behaviour_log_probs).clamp(max=min(math.log(mu_cap), LOG_RATIO_MAX))
    return Relabelled(master_log_probs - log_mu, log_mu)


def log_weight_sums(log_mu: Tensor, agents: Tensor, num_agents: int) -> Tensor:
    """(3, K) float64 log sum mu, log sum mu^2 and log n of each agent's samples; -inf of an agent without.

    Args:
        log_mu: (M,).
        agents: (M,) int64: who acted.
        num_agents: K.
    """
    log_mu = log_mu.double()
    largest = log_mu.new_full((num_agents,), -torch.inf).scatter_reduce(0, agents, log_mu, "amax")
    weights = torch.exp(log_mu - largest[agents])  # of each agent the largest is 1: no sum under- or overflows
    sums = log_mu.new_zeros(3, num_agents)
    sums.index_add_(1, agents, torch.stack([weights, weights.square(), torch.ones_like(weights)]))
    return sums.log() + torch.stack([largest, 2 * largest, torch.zeros_like(largest)])


def effective_sample_fractions(log_sums: Tensor) -> Tensor:
    """(K,) (sum mu)^2 / (n sum mu^2) of each agent, from `log_weight_sums` (R, 3, K) of R parts; NaN without any."""
    total, squares, count = log_sums.logsumexp(0).unbind()
    return (2 * total - squares - count).exp()


def effective_sample_fraction(log_mu: Tensor) -> Tensor:
    """() (sum mu)^2 / (n sum mu^2): the fraction of the off-policy samples that really counts."""
    weights = torch.exp(log_mu - log_mu.max())
    return weights.sum().square() / (weights.square().sum() * weights.numel())
