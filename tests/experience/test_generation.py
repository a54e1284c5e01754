"""Generations of episodes. Shape legend: N environments, K agents, T env steps between two looks."""

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.experience.generation import (
    Generation,
    GenerationDataset,
    GenerationReplaySettings,
    GenerationSettings,
)
from epo_lightning.experience.n_step import NStepBuffer
from epo_lightning.experience.replay import ReplayShape
from epo_lightning.experience.world import World
from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor
from epo_lightning.limits import Mistake

CPU, ENVS, AGENTS = torch.device("cpu"), 6, 3


class Paid(ClassicEnv):
    """Environment e pays e in every step, and one more in each of its later episodes; its episodes last 2 + e % 2."""

    def __init__(self, endless: bool = False) -> None:
        super().__init__(EnvSpec("Paid", ENVS, obs_dim=2, act_dim=1, max_episode_steps=1000), CPU, 0, state_dim=2)
        self.endless, self.begun = endless, torch.zeros(ENVS)

    def _draw(self) -> Tensor:
        return torch.stack([torch.arange(ENVS).float(), torch.zeros(ENVS)], dim=1)

    def _observe(self, state: Tensor) -> Tensor:
        return state.clone()

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        number, clock = state.unbind(1)
        ends = (clock + 1 >= 2 + number % 2) & (not self.endless)
        reward = number + self.begun
        self.begun = self.begun + ends
        return Transition(torch.stack([number, clock + 1], dim=1), reward, ends, torch.zeros(ENVS))


def dataset(env: ClassicEnv | None = None, replay: dict[str, int] | None = None, **settings: int) -> GenerationDataset:
    torch.manual_seed(0)
    env = env or Paid()
    shape = ReplayShape(50, ENVS, env.spec.obs_dim, env.spec.act_dim)
    policy = StackedActor(AGENTS, *shape[2:], CEMNetworkSettings(actor=(4,)))
    sizes = GenerationReplaySettings(**{"capacity_per_env": 50, "batch_size": 8, "warmup": 3, **(replay or {})})
    buffer = NStepBuffer(shape, CPU, 1, 0.99)
    return GenerationDataset(World(env), policy, GenerationSettings(**{"horizon": 1, **settings}), sizes, buffer)


def one(data: GenerationDataset) -> Generation:
    (generation,) = data
    return generation


def test_a_generation_ends_when_everybody_has_ended_an_episode_that_began_in_it() -> None:
    data = dataset()
    assert len(data) == 1
    first = one(data)
    # episodes last 2 and 3 steps by turns: over after 3, where the short ones have begun another, which does not count
    assert data.iteration_env_steps == data.env_steps == 3 * ENVS
    # agents have the environments (0, 1), (2, 3), (4, 5): (2*0 + 3*1) / 2, ...
    assert first.fitness.tolist() == [1.5, (2 * 2 + 3 * 3) / 2, (2 * 4 + 3 * 5) / 2]
    assert first.env_steps == 3 * 4  # those of the first agent, which is no member, do not count
    data.open_window()
    second = one(data)
    # the short ones go on with one that is old, and begin theirs one step later than the long ones: 1 + 2 steps
    assert data.env_steps == 6 * ENVS
    # episodes pay one more each: the third of the short ones, the second of the long ones
    assert second.fitness.tolist() == [(2 * 2 + 3 * 2) / 2, (2 * 4 + 3 * 4) / 2, (2 * 6 + 3 * 6) / 2]


def test_more_episodes_and_rarer_looks() -> None:
    data = dataset(episodes_per_env=2, horizon=4)
    generation = one(data)
    assert data.env_steps == 8 * ENVS  # the long ones end their second after 6
    # means of two episodes: 2 * (0 + 1) / 2 and 3 * (1 + 2) / 2, ...
    assert generation.fitness.tolist() == [(1 + 4.5) / 2, (5 + 10.5) / 2, (9 + 16.5) / 2]


def test_an_endless_episode_is_cut_and_said() -> None:
    data = dataset(Paid(endless=True), max_steps=5)
    with pytest.warns(UserWarning, match=r"ends after 5 env steps \(model.generation.max_steps\)"):
        generation = one(data)
    assert generation.fitness.tolist() == [5 * 0.5, 5 * 2.5, 5 * 4.5]


def test_there_is_enough_to_learn_from_after_the_warm_up() -> None:
    data = dataset()
    assert [one(data).warm for _ in range(2)] == [False, True]  # 3 and then more, of 3


def test_agents_act_by_functions_that_do_not_change_within_a_generation() -> None:
    data = dataset(Probe(ENVS, CPU, 0, max_steps=6))
    seen: list[Tensor] = []
    known: list[int] = []
    step = data.env.step

    def remembering(actions: Tensor) -> StepResult:
        assert data.obs is not None
        seen.append(data.obs.clone())
        known.append(int(data.policy.obs_moments.count))
        told, _ = data.policy.act(data.obs, data.agent_ids, data.state)
        torch.testing.assert_close(actions, told)
        return step(actions)

    data.env.step = remembering  # type: ignore[method-assign]
    one(data)
    data.open_window()
    one(data)
    assert known == [0] * 6 + [6 * ENVS] * 6
    assert data.policy.obs_moments.count == 12 * ENVS
    torch.testing.assert_close(data.policy.obs_moments.mean, torch.cat(seen).double().mean(0), rtol=0, atol=1e-6)


def test_everything_is_remembered_and_drawn_for_critics_and_actors() -> None:
    data = dataset()
    one(data)
    assert len(data.buffer) == 3 * ENVS
    batch = data.draw()
    assert batch.obs.shape == (8, 2)
    assert torch.equal(data.minibatch(0).tensors["obs"], batch.obs)
    assert torch.equal(data.minibatch(0).envs, batch.obs[:, 0].long())
    assert data.draw_for(2).shape == (2, 8, 2)
    assert data.forward_passes == 3 * ENVS + 8 + 3 * 2 * 8


def test_a_population_that_does_not_divide_the_environments() -> None:
    policy = StackedActor(4, 2, 1, CEMNetworkSettings(actor=(4,)))
    buffer = NStepBuffer(ReplayShape(4, ENVS, 2, 1), CPU, 1, 0.99)
    with pytest.raises(Mistake, match="6 environments cannot be divided among 4 agents"):
        GenerationDataset(World(Paid()), policy, GenerationSettings(), GenerationReplaySettings(), buffer)


@pytest.mark.parametrize("name", ["episodes_per_env", "horizon", "max_steps"])
def test_lengths_out_of_range(name: str) -> None:
    with pytest.raises(Mistake, match=f"model.generation.{name} must be at least 1"):
        GenerationSettings(**{name: 0})
