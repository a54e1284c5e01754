"""Paper size on a CPU is told before it is tried."""

import torch

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.buffer import RolloutShape
from epo_lightning.experience.estimate import estimate_iteration, is_large
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings


def shape_of(num_envs: int, policy: LatentActorCritic) -> RolloutShape:
    return RolloutShape(16, Population(1, num_envs), 0, obs_dim=196, action_dim=46, state_shape=policy.state_shape)


def network(**settings: object) -> LatentActorCritic:
    return LatentActorCritic(196, 46, 1, NetworkSettings(**settings))  # type: ignore[arg-type]


def test_the_papers_run_is_large_and_the_laptops_is_not() -> None:
    paper, laptop = network(lstm_units=768, hidden=(768, 512, 256)), network(hidden=(256, 256, 128))
    assert is_large(paper, shape_of(24576, paper), num_epochs=2)
    assert not is_large(laptop, shape_of(512, laptop), num_epochs=4)


def test_the_estimate_scales_with_the_environments_and_leaves_no_gradient() -> None:
    policy = network(hidden=(8,), lstm_units=4)
    built = []

    def build(num_envs: int) -> Probe:
        built.append(num_envs)
        return Probe(num_envs, torch.device("cpu"), 0, dim=46)

    small = estimate_iteration(build, policy, shape_of(64, policy), num_epochs=1)
    large = estimate_iteration(build, policy, shape_of(64_000, policy), num_epochs=1)
    assert built == [64, 64]  # never as many as would be slow
    assert small.total > 0
    assert large.total > 20 * small.total  # a thousand times as many; machines are noisy
    assert all(parameter.grad is None for parameter in policy.parameters())
