"""Which followers the master learns from, by what their samples are worth to it."""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.aggregation import source_chances
from epo_lightning.experience import relabelled_targets
from tests.support.scripted import NETWORKS, N, both_networks, locate, make_dataset, make_policy


@pytest.mark.parametrize("target", ["one_step", "v_trace"])
@both_networks
def test_by_the_effective_part_of_all_samples(network: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So few are there that all are measured and drawn: the log knows the same numbers from those drawn."""
    asked: list[Tensor] = []

    def noted(effective: Tensor) -> Tensor:
        asked.append(effective)
        return source_chances(effective)

    monkeypatch.setattr(relabelled_targets, "source_chances", noted)
    policy = make_policy(**NETWORKS[network])
    dataset = make_dataset(policy=policy, off_policy_source="by_ess", off_policy_target=target)
    for _ in range(2):  # the second rollout begins in the middle of episodes
        dataset.collect()
        torch.testing.assert_close(asked[-1][1:], dataset.of_agents["ess"][1:], rtol=1e-4, atol=0)
        assert 0.01 < asked[-1][1:].min() < asked[-1][1:].max() < 0.999


def test_who_counts_for_nothing_is_hardly_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relabelled_targets, "source_chances", lambda _: torch.tensor([0.0, 1 - 1e-9, 1e-9]).double())
    dataset = make_dataset(off_policy_source="by_ess", off_policy_ratio=1.0)
    dataset.collect()
    assert {env // (N // 3) for _, env in locate(dataset)} == {1}


def test_only_a_part_of_many_samples_is_measured() -> None:
    population = make_dataset().population
    assert relabelled_targets._spread(population, 52, torch.device("cpu")).tolist() == [2, 3, 4, 5]
    assert relabelled_targets._spread(population, 1, torch.device("cpu")).tolist() == [2, 4]
