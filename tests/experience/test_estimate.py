"""Paper size on a CPU is told before it is tried."""

import pytest
import torch

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.buffer import RolloutShape
from epo_lightning.experience.estimate import estimate_iteration, is_large
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings


def shape_of(num_envs: int, policy: LatentActorCritic) -> RolloutShape:
    return RolloutShape(16, Population(1, num_envs), 0, obs_dim=196, action_dim=46, state_shape=policy.state_shape)


def network(**settings: object) -> LatentActorCritic:
    return LatentActorCritic(196, 46, 1, NetworkSettings(**settings))  # type: ignore[arg-type]


def test_the_papers_run_is_large_and_the_laptops_is_not() -> None:
    paper, laptop = network(lstm_units=768, hidden=(768, 512, 256)), network(hidden=(256, 256, 128))
    assert is_large(paper, shape_of(24576, paper), num_epochs=2)
    assert not is_large(laptop, shape_of(512, laptop), num_epochs=4)


@pytest.mark.parametrize("lstm_units", [4, None])
def test_the_estimate_by_hand(lstm_units: int | None) -> None:
    """Steps of 64 environments take 1/2 s and forward passes 2 s, but the first of each takes a minute."""
    policy = network(hidden=(8,), lstm_units=lstm_units)
    now, forwards, built = 0.0, 0, []

    class Slow(Probe):
        slow_steps = 0

        def step(self, actions: torch.Tensor) -> StepResult:
            nonlocal now
            now += 0.5 if self.slow_steps else 60.0
            self.slow_steps += 1
            return super().step(actions)

    def build(num_envs: int, seed: int) -> Probe:
        built.append(num_envs)
        return Slow(num_envs, torch.device("cpu"), seed, dim=46)

    def forward(*_: object) -> None:
        nonlocal now, forwards
        now += 2.0 if forwards else 60.0
        forwards += 1

    policy.actor.register_forward_hook(forward)
    world = World(Probe(1, torch.device("cpu"), 0, dim=46), build=build)
    for num_envs in (64, 64_000):
        forwards = 0
        estimate = estimate_iteration(world, policy, shape_of(num_envs, policy), 1, clock=lambda: now)
        # 16 steps
        assert estimate.env == pytest.approx(16 * 0.5 * num_envs / 64)
        # 16 x 64 samples are a quarter of 16 x 256: once forward and backward, and forward for a third of that to act
        assert estimate.network == pytest.approx(2.0 * (1 + 1 / 3) / 4 * num_envs / 64)
    assert built == [64, 64]  # never as many as would be slow
    assert all(parameter.grad is None for parameter in policy.parameters())
