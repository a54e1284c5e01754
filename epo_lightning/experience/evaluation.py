"""Deterministic evaluation over complete episodes.

Shape legend: N environments, E episodes of each, M measured quantities, S seeds of the environments.

Every environment contributes the same number of episodes, counted from the reset, so that short episodes are not
over-represented.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.contract import check_first, check_result, refuse_unsound, sound
from epo_lightning.experience.episodes import QUANTITIES, EpisodeLedger
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake

_STEPS_BETWEEN_CHECKS = 16
_PATIENCE = 100_000
"""Env steps that an episode may take where the task names no limit."""


class Episodes(NamedTuple):
    """Totals (M, E * N) of complete episodes, in the order of `episodes.QUANTITIES`."""

    totals: Tensor


class Summary(NamedTuple):
    """One quantity over S seeds with the same number of episodes each; an error of a single value is NaN.

    Attributes:
        mean: Over all episodes.
        standard_error: Of the mean, over episodes.
        seed_means: Mean of every seed.
        seed_error: Standard error of the mean, over the seeds' means.
    """

    mean: float
    standard_error: float
    seed_means: list[float]
    seed_error: float


@torch.no_grad()
def play_episodes(env: VectorEnv, policy: Policy, agent: int, episodes_per_env: int) -> Episodes:
    """Play `episodes_per_env` complete episodes in every environment with the mean actions of `agent`.

    Raises:
        Mistake: When the environment breaks its contract, or an environment does not finish its episodes.
    """
    obs, envs = env.reset(), env.spec.num_envs
    device = policy.device
    check_first(obs, env.spec, device)
    agents = torch.full((envs,), agent, device=device)
    state = policy.initial_state(envs, device)
    ledger = EpisodeLedger(envs, device)
    played = torch.zeros(envs, dtype=torch.long, device=device)
    totals = torch.zeros(len(QUANTITIES), episodes_per_env, envs, device=device)
    bad = torch.zeros(envs, dtype=torch.bool, device=device)
    slots = torch.arange(episodes_per_env, device=device)[:, None]
    for step in range(step_limit(env, episodes_per_env)):
        actions, state = policy.act(obs, agents, state)
        result = env.step(actions)
        check_result(result, env.spec, device)
        bad |= ~sound(result)
        done = result.terminated | result.truncated
        finished = ledger.record(result.reward[None], result.successes[None], done[None])
        totals = torch.where((slots == played) & done, finished.totals[0][:, None], totals)
        played = played + done
        state = state.masked_fill(done[:, None], 0.0)
        obs = result.obs
        if step % _STEPS_BETWEEN_CHECKS == 0 and bool((bad | (played >= episodes_per_env)).all()):
            break
    refuse_unsound(env.spec, bad)
    if bool((played >= episodes_per_env).all()):
        return Episodes(totals.flatten(1))
    raise Mistake(
        f"{env.spec.name}: {int((played < episodes_per_env).sum())} of {envs} environments did not finish"
        f" {episodes_per_env} episodes; lower data.eval_episodes or give the task a time limit"
    )


def step_limit(env: VectorEnv, episodes_per_env: int) -> int:
    """Env steps after which every environment must have finished its episodes."""
    return episodes_per_env * (env.spec.max_episode_steps or _PATIENCE) + _STEPS_BETWEEN_CHECKS


def summarize(totals: Tensor) -> dict[str, Summary]:
    """Statistics of each quantity from the totals (S, M, E * N) of every seed's episodes."""
    by_quantity = totals.double().transpose(0, 1)
    summaries = {}
    for name, values in zip(QUANTITIES, by_quantity, strict=True):
        seed_means = values.mean(1)
        errors = _standard_error(values.flatten()), _standard_error(seed_means)
        summaries[name] = Summary(values.mean().item(), errors[0], seed_means.tolist(), errors[1])
    return summaries


def _standard_error(values: Tensor) -> float:
    """Sample standard deviation of `values` (n,) over root n."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def fixed_difficulty(env: VectorEnv, reached: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
    """Make `env` as difficult as training has `reached`, except for what is `wanted`, and hold it there.

    Args:
        env: The environments to evaluate in.
        reached: `VectorEnv.curriculum()` of the training, or nothing.
        wanted: Values in its stead.

    Returns:
        What `env.curriculum()` is now.

    Raises:
        Mistake: When `wanted` names something that this task does not have, or a value is out of its range.
    """
    own = env.curriculum()
    for name in wanted:
        if name not in own:
            known = f"has {', '.join(own)}" if own else "has none to set"
            raise Mistake(f"data.eval_difficulty: {env.spec.name} {known}; got {name}")
    try:
        env.set_curriculum({**own, **reached, **wanted})
    except ValueError as error:  # the contract's way to say that a value is out of range
        raise Mistake(f"data.eval_difficulty: {env.spec.name}: {error}") from error
    return env.curriculum()


class EvaluationDataset(IterableDataset[Episodes]):
    """One item per seed: the episodes of one agent in environments of that seed.

    Args:
        build: Gives the environments of a seed.
        seeds: The seeds.
        policy: The network.
        agent: Whose gene acts.
        episodes_per_env: Complete episodes of every environment.
    """

    def __init__(
        self,
        build: Callable[[int], VectorEnv],
        seeds: Sequence[int],
        policy: Policy,
        agent: int,
        episodes_per_env: int,
    ) -> None:
        self.build, self.seeds = build, seeds
        self.policy, self.agent, self.episodes_per_env = policy, agent, episodes_per_env

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[Episodes]:
        for seed in self.seeds:
            yield play_episodes(self.build(seed), self.policy, self.agent, self.episodes_per_env)
