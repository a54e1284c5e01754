"""Evaluation over complete episodes: of one agent, or of several side by side.

Shape legend: A agents, n environments of each, N = A n, E episodes of each environment, M measured quantities, S seeds
of the environments.

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


class Round(NamedTuple):
    """Who plays at the same time, in one vector of environments.

    Attributes:
        agents: A of them, each in n environments: a block, and the blocks are in this order.
        envs: n, on every rank.
        episodes: E, of each environment.
        is_drawn: The agents draw their actions, as in training; otherwise they take the likeliest ones.
        is_extra: It is played besides what an evaluation is for.
    """

    agents: tuple[int, ...]
    envs: int
    episodes: int
    is_drawn: bool = False
    is_extra: bool = False

    def by_agent(self, totals: Tensor) -> Tensor:
        """(M, A, E, n) of totals (M, E * N)."""
        blocks: Tensor = totals.unflatten(1, (self.episodes, len(self.agents), self.envs))
        return blocks.transpose(1, 2)


class Episodes(NamedTuple):
    """Totals (M, E * N) of complete episodes, in the order of `episodes.QUANTITIES`, and who played them."""

    totals: Tensor
    round: Round


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
def play_episodes(
    env: VectorEnv,
    policy: Policy,
    agents: int | Tensor,
    episodes_per_env: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Play `episodes_per_env` complete episodes in every environment.

    Args:
        env: N environments.
        policy: The network.
        agents: Who acts: one, or (N,) ids.
        episodes_per_env: E.
        generator: Draws the actions; without it they are the likeliest ones.

    Returns:
        (M, E * N) totals of the episodes, those of a round of all environments one after another.

    Raises:
        Mistake: When the environment breaks its contract, or an environment does not finish its episodes.
    """
    obs, envs = env.reset(), env.spec.num_envs
    device = policy.device
    check_first(obs, env.spec, device)
    acting = torch.as_tensor(agents, device=device).expand(envs).contiguous()
    state = policy.initial_state(envs, device)
    ledger = EpisodeLedger(envs, device)
    played = torch.zeros(envs, dtype=torch.long, device=device)
    totals = torch.zeros(len(QUANTITIES), episodes_per_env, envs, device=device)
    bad = torch.zeros(envs, dtype=torch.bool, device=device)
    slots = torch.arange(episodes_per_env, device=device)[:, None]
    for step in range(step_limit(env, episodes_per_env)):
        actions, state = policy.act(obs, acting, state, generator)
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
        return totals.flatten(1)
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
    """One item for each round and seed: the episodes of its agents in environments of that seed.

    Args:
        build: Gives so many environments of a seed.
        seeds: The seeds.
        policy: The network.
        rounds: Who plays.
        noise_seed: Of the noise of drawn actions, by seed of the environments.
    """

    def __init__(
        self,
        build: Callable[[int, int], VectorEnv],
        seeds: Sequence[int],
        policy: Policy,
        rounds: Sequence[Round],
        noise_seed: Callable[[int], int] = int,
    ) -> None:
        self.build, self.seeds, self.policy = build, seeds, policy
        self.rounds, self.noise_seed = rounds, noise_seed

    def __len__(self) -> int:
        return len(self.rounds) * len(self.seeds)

    def __iter__(self) -> Iterator[Episodes]:
        for each in self.rounds:
            agents = torch.tensor(each.agents).repeat_interleave(each.envs)
            for seed in self.seeds:
                generator = None
                if each.is_drawn:
                    generator = torch.Generator(self.policy.device).manual_seed(self.noise_seed(seed))
                env = self.build(seed, len(agents))
                yield Episodes(play_episodes(env, self.policy, agents, each.episodes, generator), each)
