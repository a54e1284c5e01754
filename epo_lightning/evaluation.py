"""Deterministic evaluation over complete episodes.

Shape legend: N environments, E episodes of each, M measured quantities.

Every environment contributes the same number of episodes, counted from the reset, so that short episodes are not
over-represented.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from epo_lightning.envs.base import VectorEnv
from epo_lightning.metrics import QUANTITIES, EpisodeLedger
from epo_lightning.networks import LatentActorCritic

_STEPS_BETWEEN_CHECKS = 16


class Episodes(NamedTuple):
    """Totals (M, E * N) of complete episodes, in the order of `metrics.QUANTITIES`."""

    totals: Tensor


class Summary(NamedTuple):
    """Mean and standard error of one quantity over episodes."""

    mean: float
    standard_error: float
    episodes: int


@torch.no_grad()
def play_episodes(env: VectorEnv, policy: LatentActorCritic, agent: int, episodes_per_env: int) -> Episodes:
    """Play `episodes_per_env` complete episodes in every environment with the mean actions of `agent`."""
    obs = env.reset()
    device, envs = obs.device, env.spec.num_envs
    agents = torch.full((envs,), agent, device=device)
    state = policy.initial_state(envs, device)
    ledger = EpisodeLedger(envs, device)
    played = torch.zeros(envs, dtype=torch.long, device=device)
    totals = torch.zeros(len(QUANTITIES), episodes_per_env, envs, device=device)
    slots = torch.arange(episodes_per_env, device=device)[:, None]
    for step in range(step_limit(env, episodes_per_env)):
        actions, state = policy.act(obs, agents, state)
        result = env.step(actions)
        done = result.terminated | result.truncated
        finished = ledger.record(result.reward[None], result.successes[None], done[None])
        totals = torch.where((slots == played) & done, finished.totals[0][:, None], totals)
        played = played + done
        state = state.masked_fill(done[:, None], 0.0)
        obs = result.obs
        if step % _STEPS_BETWEEN_CHECKS == 0 and bool((played >= episodes_per_env).all()):
            return Episodes(totals.flatten(1))
    if bool((played >= episodes_per_env).all()):
        return Episodes(totals.flatten(1))
    raise ValueError(
        f"{env.spec.name}: {int((played < episodes_per_env).sum())} of {envs} environments did not finish"
        f" {episodes_per_env} episodes; lower data.eval_episodes or give the task a time limit"
    )


def step_limit(env: VectorEnv, episodes_per_env: int) -> int:
    """Env steps after which every environment must have finished its episodes."""
    return episodes_per_env * (env.spec.max_episode_steps or 100_000) + _STEPS_BETWEEN_CHECKS


def summarize(totals: Tensor) -> dict[str, Summary]:
    """Mean and standard error (sample standard deviation over root n) of each quantity, from totals (M, n)."""
    count = totals.shape[1]
    means = totals.double().mean(1)
    errors = totals.double().std(1) / math.sqrt(count) if count > 1 else torch.full_like(means, math.nan)
    pairs = zip(means.tolist(), errors.tolist(), strict=True)
    return {name: Summary(*pair, count) for name, pair in zip(QUANTITIES, pairs, strict=True)}


class EvaluationDataset(IterableDataset[Episodes]):
    """One item: the episodes of the master in an environment of its own.

    Args:
        env: The environments.
        policy: The network.
        agent: Whose gene acts.
        episodes_per_env: Complete episodes of every environment.
    """

    def __init__(self, env: VectorEnv, policy: LatentActorCritic, agent: int, episodes_per_env: int) -> None:
        self.env, self.policy, self.agent, self.episodes_per_env = env, policy, agent, episodes_per_env

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Episodes]:
        yield play_episodes(self.env, self.policy, self.agent, self.episodes_per_env)
