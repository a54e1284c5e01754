"""Every algorithm climbs the ladder: small tasks with known answers, a few seconds for all of them.

Shape legend: K agents, T steps of an episode, N environments.

A new algorithm is one row of `ALGORITHMS`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from einops import rearrange
from torch import Tensor

from epo_lightning.algorithm import cem
from epo_lightning.algorithm import pql as losses_of_pql
from epo_lightning.algorithm import sac as losses_of_sac
from epo_lightning.algorithm.advantages import bootstrap_values, gae_targets
from epo_lightning.algorithm.cem import CEMSettings
from epo_lightning.algorithm.distributions import Gaussian
from epo_lightning.algorithm.genetics import rank
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.algorithm.n_step import n_step_windows
from epo_lightning.algorithm.population_based import Margins
from epo_lightning.algorithm.pql import PQLLossSettings
from epo_lightning.algorithm.q_values import QValues
from epo_lightning.algorithm.sac import SACLossSettings
from epo_lightning.callbacks import GeneticEvolution, PopulationBasedTraining
from epo_lightning.envs.base import EnvFactory
from epo_lightning.envs.check import check_env
from epo_lightning.experience import n_step, targets
from epo_lightning.experience.generation import GenerationReplaySettings, GenerationSettings
from epo_lightning.experience.n_step import ExplorationSettings
from epo_lightning.experience.replay import ReplaySettings
from epo_lightning.experience.settings import OnPolicySettings, RolloutSettings
from epo_lightning.learner.actor_critic import ActorCriticSettings, Expression, PolicyOutput
from epo_lightning.learner.adam import CEMOptimizerSettings
from epo_lightning.learner.adamw import AdamWSettings
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.normalization import RunningMoments, normalize_across_ranks
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.learner.q_networks import SACNetworkSettings
from epo_lightning.learner.stacked_actor import CEMNetworkSettings
from epo_lightning.modules import pql, sac
from epo_lightning.modules.cem_rl import TD3, CEMRLModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.modules.pbt import PBTModule
from epo_lightning.modules.pql import PQLModule
from epo_lightning.modules.sac import SACModule
from tests.support.ladder import TARGET, Action, Constant, Delay, Memory, Observation, Rung, Shown
from tests.support.training import small_data, train

GAMMA = 0.8


class Answers(NamedTuple):
    """What every agent says of episodes: mean `actions`, their `sigma` and `values`, (K, T, N) each."""

    actions: Tensor
    sigma: Tensor
    values: Tensor


class Task(NamedTuple):
    """What an algorithm learns.

    Attributes:
        env: Environments.
        needs_memory: Whether the right action depends on what was seen before.
        hides: Whether the return depends on what is not seen: who learns from single transitions cannot know it then.
    """

    env: EnvFactory
    needs_memory: bool = False
    hides: bool = False


Learner = Callable[[Tensor], Answers]
"""Answers to the observations (T, N, 1) of N episodes from their start on."""


def population(task: Task, folder: Path, num_agents: int, evolves: bool = False, coupling: float = 0.0) -> Learner:
    """Train `EPOModule` for 45 iterations: PPO with one agent, SAPG with several, CPO coupled, EPO if it `evolves`."""
    torch.manual_seed(0)
    lstm_units = 8 if task.needs_memory else None
    network = NetworkSettings((16,), lstm_units=lstm_units, log_std_init=-1.0, gene_dim=2 if num_agents > 1 else 0)
    steps = GeneOptimizerSettings(learning_rate=5e-3)
    rollout = RolloutSettings(horizon=6, gamma=GAMMA, num_epochs=4, num_minibatches=2)
    module = EPOModule(num_agents, network, LossSettings(coupling_coefficient=coupling), steps, rollout)
    data = small_data(64, task.env)
    # a follower is replaced every twelve iterations of 64 x 6 env steps, if they differ; the last one has time to learn
    evolution = GeneticEvolution(12 * 64 * 6, warmup_env_steps=0, num_elites=1, num_offspring=1, spread_threshold=0.0)
    train(module, data, folder, 45, *([evolution] if evolves else []))
    return partial(answers, module)


@torch.no_grad()
def answers(module: EPOModule, obs: Tensor) -> Answers:
    """What every agent of `module` says, step by step."""
    policy, (_, episodes, _) = module.policy, obs.shape
    said = []
    for agent in range(module.num_agents):
        rows, state = policy.express(torch.full((episodes,), agent)), policy.initial_state(episodes)
        for step in policy.obs_moments.normalize(obs):
            output = policy(step, rows, state)
            state, value = output.state, policy.value_moments.denormalize(output.value)
            assert isinstance(output.actions, Gaussian)
            said.append(torch.stack([output.actions.mean[:, 0], rows.log_std[:, 0].exp(), value]))
    return Answers(*rearrange(said, "(k t) field n -> field k t n", k=module.num_agents))


def apart(task: Task, folder: Path) -> Learner:
    """Train `PBTModule` for 45 iterations; after twelve of them those below the mean take weights from above it."""
    torch.manual_seed(0)
    network = ActorCriticSettings((16,), lstm_units=8 if task.needs_memory else None, log_std_init=-1.0)
    rollout = OnPolicySettings(horizon=6, gamma=GAMMA, num_epochs=4, num_minibatches=2)
    module = PBTModule(4, network, optimizer=GeneOptimizerSettings(learning_rate=5e-3), rollout=rollout)
    genes: dict[str, tuple[float, float] | None] = {"clip": None, "max_grad_norm": None}
    rule = Margins(margin_std=0.0, margin_absolute=0.0)
    exchange = PopulationBasedTraining("return", 12 * 16 * 6, start_after=0, initial_delay=0, rule=rule, genome=genes)
    train(module, small_data(64, task.env), folder, 45, exchange)
    return partial(answers_of_blocks, module)


@torch.no_grad()
def answers_of_blocks(module: PBTModule, obs: Tensor) -> Answers:
    """What every agent of `module` says, step by step: all of them at once."""
    policy, agents, (_, episodes, _) = module.policy, module.num_agents, obs.shape
    rows = policy.express(torch.arange(agents).repeat_interleave(episodes))
    said, state = [], policy.initial_state(agents * episodes)
    for step in obs:
        output = policy(policy.obs_moments.normalize(step.repeat(agents, 1)), rows, state)
        state, value = output.state, policy.value_moments.denormalize(output.value)
        assert isinstance(output.actions, Gaussian)
        said.append(torch.stack([output.actions.mean[:, 0], rows.log_std[:, 0].exp(), value]))
    return Answers(*rearrange(said, "t field (k n) -> field k t n", k=agents))


def soft_actor_critic(task: Task, folder: Path) -> Learner:
    """Train `SACModule` on 120 env steps of 64 environments."""
    torch.manual_seed(0)
    network = SACNetworkSettings((16,), (32, 32), atoms=51, value_min=-2.0, value_max=6.0)
    steps = AdamWSettings(learning_rate=5e-3, updates_per_step=4, actor_every=2)
    replay = ReplaySettings(capacity_per_env=120, batch_size=128, warmup=20, horizon=40)
    module = SACModule(network, SACLossSettings(gamma=GAMMA, temperature=1e-4, target_entropy=-0.5), steps, replay)
    train(module, small_data(64, task.env), folder, 3)
    return partial(soft_answers, module)


@torch.no_grad()
def soft_answers(module: SACModule, obs: Tensor) -> Answers:
    """What 500 draws of the actor are in the mean, and what the critics say of them.

    The entropy of the following steps, which is in them, is worth nothing beside the rewards: alpha stays that small.
    """
    generator = torch.Generator().manual_seed(0)
    seen = module.policy.obs_moments.normalize(obs).expand(500, *obs.shape)
    draws = module.policy(seen).sample(generator).actions
    values = module.critic(seen.flatten(0, 2), draws.flatten(0, 2)).mean().mean(0).view(draws.shape[:3])
    assert module.log_temperature.exp() < 2e-3
    return Answers(draws.mean(0)[None, ..., 0], draws.std(0)[None, ..., 0], values.mean(0)[None])


def parallel_q_learning(task: Task, folder: Path) -> Learner:
    """Train `PQLModule` on 120 env steps of 64 environments, with the published numbers but for size and step size."""
    torch.manual_seed(0)
    network, loss = PQLNetworkSettings((16,), (32, 32)), PQLLossSettings(gamma=GAMMA)
    steps = AdamWSettings(learning_rate=5e-3, max_grad_norm=0.5, updates_per_step=4, actor_every=2)
    replay = ReplaySettings(capacity_per_env=120, batch_size=128, warmup=20, horizon=40)
    module = PQLModule(network, loss, ExplorationSettings(), steps, replay)
    train(module, small_data(64, task.env), folder, 3)
    return partial(certain_answers, module)


@torch.no_grad()
def certain_answers(module: PQLModule, obs: Tensor) -> Answers:
    """What the actor does, without noise, and what the critics say of it."""
    seen = module.policy.obs_moments.normalize(obs).flatten(0, 1)
    actions = module.policy(seen)
    values = module.critic(seen, actions).mean().mean(0)
    actions, values = actions.view(1, *obs.shape[:2]), values.view(1, *obs.shape[:2])
    return Answers(actions, torch.zeros_like(actions), values)


def distribution_of_actors(task: Task, folder: Path) -> Learner:
    """Train `CEMRLModule` for 14 generations of six env steps: whole episodes of every rung."""
    torch.manual_seed(0)
    evolution = CEMSettings(gradient_members=4, parents=4)
    loss = replace(TD3, gamma=GAMMA, tau=0.05)
    steps = CEMOptimizerSettings(5e-3, 5e-3, critic_updates_per_env_step=0.1, actor_updates_per_env_step=0.05)
    replay = GenerationReplaySettings(capacity_per_env=120, batch_size=128, warmup=0)
    network, generation = CEMNetworkSettings((16,), (32, 32)), GenerationSettings(horizon=6)
    module = CEMRLModule(9, network, evolution, loss, steps, replay, generation)
    train(module, small_data(72, task.env), folder, 14)
    return partial(answers_of_the_mean, module)


@torch.no_grad()
def answers_of_the_mean(module: CEMRLModule, obs: Tensor) -> Answers:
    """What the mean of the distribution does, and what the critics say of it."""
    policy, rows = module.policy, obs.flatten(0, 1)
    actions, _ = policy.act(rows, torch.zeros(len(rows), dtype=torch.long), policy.initial_state(len(rows)))
    values = module.critic(policy.obs_moments.normalize(rows), actions).mean().mean(0)
    actions, values = actions.view(1, *obs.shape[:2]), values.view(1, *obs.shape[:2])
    return Answers(actions, torch.zeros_like(actions), values)


ALGORITHMS: dict[str, Callable[[Task, Path], Learner]] = {
    "PPO": partial(population, num_agents=1),
    "SAPG": partial(population, num_agents=4),
    "CPO": partial(population, num_agents=4, coupling=1e-3),
    "EPO": partial(population, num_agents=4, evolves=True),
    "PBT": apart,
    "SAC": soft_actor_critic,
    "PQL": parallel_q_learning,
    "CEM-RL": distribution_of_actors,
}
BY_TRANSITIONS = {"SAC", "PQL", "CEM-RL"}
"""Who learns from transitions, of few steps, one by one: what is hidden is nothing for them."""

ZERO, SIGNS = torch.zeros(1), torch.tensor([-1.0, 1.0])


class Known(NamedTuple):
    """A rung and its answers: the step that is paid for by the action pays c - (a - x)^2.

    Attributes:
        task: What is learnt.
        obs: (T, N, 1), all that its episodes can show; of "delayed reward, seen" the first step only.
        pays: (N,) c.
        weights: (T,) V of each step, in units of the expected pay.
        target: (N,) x; None where the action does not matter.
        step: The step of the action that matters.
    """

    task: Task
    obs: Tensor
    pays: Tensor
    weights: tuple[float, ...]
    target: Tensor | None = None
    step: int = 0


LATE = (GAMMA**2, GAMMA, 1.0)
RUNGS = {
    "constant reward": Known(Task(Constant), ZERO.view(1, 1, 1), ZERO + 1, (1.0,)),
    "time limit": Known(Task(partial(Constant, ending="truncated")), ZERO.view(1, 1, 1), ZERO + 1, (1 / (1 - GAMMA),)),
    "reward by action": Known(Task(Action), ZERO.view(1, 1, 1), ZERO + 1, (1.0,), ZERO + TARGET),
    "reward by observation": Known(Task(Observation), SIGNS.view(1, 2, 1), SIGNS, (1.0,), TARGET * SIGNS),
    "delayed reward, seen": Known(Task(Shown), ZERO.view(1, 1, 1), ZERO + 1, (GAMMA,), ZERO + TARGET),
    "delayed reward": Known(
        Task(Delay, hides=True), torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1), ZERO + 1, LATE, ZERO + TARGET
    ),
    "memory": Known(
        Task(Memory, needs_memory=True, hides=True),
        torch.stack([SIGNS, 0 * SIGNS, 0 * SIGNS])[..., None],
        SIGNS,
        LATE,
        TARGET * SIGNS,
        step=2,
    ),
}


def require_known(rung: Known, learner: Learner) -> None:
    """Every agent's mean action is right to 0.2, its values to 0.2 and 5% of what its policy really earns.

    Over nine seeds the largest error of EPO was 0.09 of an action and 0.13 of a value; the broken learners below are
    off by three times the tolerance and more.
    """
    said = learner(rung.obs)
    earns = rung.pays.expand(len(said.actions), -1)
    if rung.target is not None:
        mean, sigma = said.actions[:, rung.step], said.sigma[:, rung.step]
        torch.testing.assert_close(mean, rung.target.expand_as(mean), atol=0.2, rtol=0.0)
        # E[c - (a - x)^2] = c - sigma^2 - (m - x)^2
        earns = earns - sigma.square() - (mean - rung.target).square()
    values = torch.tensor(rung.weights)[:, None] * earns[:, None]
    torch.testing.assert_close(said.values, values, atol=0.2, rtol=0.05)


@pytest.mark.parametrize(
    ("algorithm", "rung"),
    [(name, rung) for name in ALGORITHMS for rung in RUNGS if not (name in BY_TRANSITIONS and RUNGS[rung].task.hides)],
)
def test_every_algorithm_climbs_every_rung(algorithm: str, rung: str, tmp_path: Path) -> None:
    require_known(RUNGS[rung], ALGORITHMS[algorithm](RUNGS[rung].task, tmp_path))


def negate_advantages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(targets, "normalize_across_ranks", lambda *given: -normalize_across_ranks(*given))


def cut_at_time_limits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        targets,
        "bootstrap_values",
        lambda values, final, terminated, truncated: bootstrap_values(values, final, terminated | truncated, truncated),
    )


def bootstrap_the_dead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        targets,
        "bootstrap_values",
        lambda values, final, terminated, truncated: bootstrap_values(values, final, terminated & False, truncated),
    )


def look_away(patch: pytest.MonkeyPatch) -> None:
    normalize = RunningMoments.normalize

    def blank(self: RunningMoments, x: Tensor, out: Tensor | None = None) -> Tensor:
        return normalize(self, x, out=out).mul_(self.clip is None)  # of observations, not of values

    patch.setattr(RunningMoments, "normalize", blank)


def credit_the_last_action_only(patch: pytest.MonkeyPatch) -> None:
    def one_step(rewards: Tensor, values: Tensor, following: Tensor, done: Tensor, gamma: float, _: float) -> Tensor:
        return gae_targets(rewards, values, following, done, gamma, gae_lambda=0.0)

    patch.setattr(targets, "gae_targets", one_step)


def forget(patch: pytest.MonkeyPatch) -> None:
    forward = LatentActorCritic.forward

    def forgetful(
        self: LatentActorCritic,
        obs: Tensor,
        rows: Expression,
        state: Tensor,
        _: Tensor | None = None,
        every_state: bool = False,
    ) -> PolicyOutput:
        every = torch.ones(obs.shape[:-1], dtype=torch.bool) if obs.dim() == 3 else None
        return forward(self, obs, rows, torch.zeros_like(state), every, every_state)

    patch.setattr(LatentActorCritic, "forward", forgetful)


def act_against_the_critics(patch: pytest.MonkeyPatch) -> None:
    loss = losses_of_sac.actor_loss
    patch.setattr(sac, "actor_loss", lambda *arguments: -loss(*arguments))


def expect(ends: Callable[[Tensor], Tensor], patch: pytest.MonkeyPatch) -> None:
    """Take for terminated what `ends` makes of it."""
    told = losses_of_sac.critic_targets

    def other(following: QValues, log_probs: Tensor, rewards: Tensor, terminated: Tensor, *rest: Any) -> Tensor:
        return told(following, log_probs, rewards, ends(terminated), *rest)

    patch.setattr(sac, "critic_targets", other)


def climb_down(patch: pytest.MonkeyPatch) -> None:
    loss = losses_of_pql.actor_loss
    patch.setattr(pql, "actor_loss", lambda values: -loss(values))


def n_steps_end(ends: Callable[[Tensor], Tensor], patch: pytest.MonkeyPatch) -> None:
    """Take for terminated what `ends` makes of all that ended."""
    told = n_step_windows
    patch.setattr(n_step, "n_step_windows", lambda r, _, ended, gamma: told(r, ends(ended), ended, gamma))


def choose_the_worst(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cem, "rank", lambda fitness: rank(-fitness))


@pytest.mark.parametrize(
    ("algorithm", "breakage", "lost", "kept"),
    [
        ("PPO", negate_advantages, "reward by action", "time limit"),
        ("PPO", cut_at_time_limits, "time limit", "constant reward"),
        ("PPO", bootstrap_the_dead, "constant reward", "time limit"),
        ("PPO", look_away, "reward by observation", "reward by action"),
        ("PPO", credit_the_last_action_only, "delayed reward", "memory"),
        ("PPO", forget, "memory", "delayed reward"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("SAC", act_against_the_critics, "reward by action", "time limit"),
                ("SAC", partial(expect, torch.ones_like), "delayed reward, seen", "reward by action"),
                ("SAC", partial(expect, torch.zeros_like), "constant reward", "time limit"),
                ("SAC", look_away, "reward by observation", "reward by action"),
                ("PQL", climb_down, "reward by action", "time limit"),
                ("PQL", partial(n_steps_end, torch.clone), "time limit", "reward by action"),
                ("PQL", partial(n_steps_end, torch.zeros_like), "constant reward", "time limit"),
                ("PQL", look_away, "reward by observation", "reward by action"),
                ("CEM-RL", choose_the_worst, "reward by action", "time limit"),
                ("CEM-RL", partial(n_steps_end, torch.clone), "time limit", "reward by action"),
            )
        ),
    ],
)
def test_a_broken_learner_falls_from_the_rung_it_should(
    algorithm: str,
    breakage: Callable[[pytest.MonkeyPatch], None],
    lost: str,
    kept: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breakage(monkeypatch)
    require_known(RUNGS[kept], ALGORITHMS[algorithm](RUNGS[kept].task, tmp_path))
    with pytest.raises(AssertionError, match="not close"):
        require_known(RUNGS[lost], ALGORITHMS[algorithm](RUNGS[lost].task, tmp_path))


def test_evolution_takes_part(tmp_path: Path) -> None:
    """The rung that followers differ on is climbed with generations, not beside them."""
    ALGORITHMS["EPO"](RUNGS["reward by action"].task, tmp_path)
    generations = (tmp_path / "lineage.jsonl").read_text().splitlines()
    assert len(generations) == 3


def test_exchange_takes_part(tmp_path: Path) -> None:
    """Agents climb with weights that others have learnt."""
    ALGORITHMS["PBT"](RUNGS["reward by observation"].task, tmp_path)
    exchanges = (tmp_path / "lineage.jsonl").read_text().splitlines()
    assert len(exchanges) == 3
    assert all('"children": []' not in line for line in exchanges)


@pytest.mark.parametrize("rung", [Constant, Action, Observation, Delay, Shown, Memory])
def test_the_rungs_keep_the_contract(rung: type[Rung]) -> None:
    check_env(rung(4, torch.device("cpu"), 0))


def test_only_the_first_observation_tells_what_to_remember() -> None:
    env = Memory(8, torch.device("cpu"), 0)
    assert set(env.reset().flatten().tolist()) == {-1.0, 1.0}
    for _ in range(2):
        assert env.step(torch.zeros(8, 1)).obs.abs().max() == 0.0
