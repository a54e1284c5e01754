"""Minibatches of a fixed size, beside a fixed number of them; every number by hand."""

import pytest
import torch

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.limits import Mistake


def make(minibatch_size: int, lstm_units: int | None = None) -> RolloutDataset:
    """Two agents in 8 environments for 3 steps, and 4 columns of relabelled samples: 36 samples."""
    network = NetworkSettings(gene_dim=2, hidden=(4,), lstm_units=lstm_units)
    env, policy = Probe(8, torch.device("cpu"), 0, dim=1), LatentActorCritic(1, 1, 2, network)
    return RolloutDataset(
        World(env), policy, Population(2, 8), RolloutSettings(horizon=3, minibatch_size=minibatch_size)
    )


def test_their_number_grows_with_the_batch() -> None:
    settings = RolloutSettings(minibatch_size=64)
    assert [settings.minibatches(samples, 1) for samples in (64, 128, 4096)] == [1, 2, 64]


def test_of_sequences_it_counts_samples() -> None:
    assert RolloutSettings(minibatch_size=64).minibatches(12, 16) == 3  # 12 sequences of 16, 4 in each


def test_four_by_default() -> None:
    assert RolloutSettings().minibatches(100, 1) == 4
    assert RolloutSettings(num_minibatches=7).minibatches(100, 1) == 7


def test_a_rollout_is_cut_into_minibatches_of_that_size() -> None:
    dataset = make(9)
    list(dataset)
    assert [len(batch.agent_ids) for batch in dataset.one_pass()] == [9] * 4
    assert len(dataset.minibatch(3).envs) == 9
    recurrent = make(18, lstm_units=3)  # 12 sequences of 3
    list(recurrent)
    assert [batch.obs.shape[:2] for batch in recurrent.one_pass()] == [(3, 6), (3, 6)]


def test_both_are_one_too_many() -> None:
    with pytest.raises(Mistake, match=r"num_minibatches 4 and model\.rollout\.minibatch_size 8 .*one of them to null"):
        RolloutSettings(num_minibatches=4, minibatch_size=8)


@pytest.mark.parametrize(
    ("size", "units", "steps", "message"),
    [
        (10, 36, 1, "must divide the 36 samples of an iteration and rank: use e.g. 9 or 12; got 10"),
        (72, 36, 1, "must divide the 36 samples of an iteration and rank: use e.g. 36; got 72"),
        (
            12,
            12,
            8,
            "must divide the 96 samples of an iteration and rank in whole sequences of 8: use e.g. 8 or 16",
        ),
        (4, 12, 8, "in whole sequences of 8: use e.g. 8; got 4"),
    ],
)
def test_what_does_not_divide_is_told_the_next_that_does(size: int, units: int, steps: int, message: str) -> None:
    with pytest.raises(Mistake) as told:
        RolloutSettings(minibatch_size=size).minibatches(units, steps)
    assert str(told.value).startswith("model.rollout.minibatch_size must divide")
    assert message in str(told.value)
