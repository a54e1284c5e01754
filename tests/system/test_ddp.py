"""Two gloo ranks on one machine train one model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


def trained(program: str, folder: Path) -> list[dict[str, Any]]:
    """What both ranks of a program held at its end."""
    command = [sys.executable, "-m", f"tests.support.{program}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Eight iterations with evolution, followers coupled to the master."""
    return trained("two_ranks", tmp_path_factory.mktemp("ddp"))


def test_parameters_genes_and_normalisers_are_equal(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["policy"] for rank in ranks)
    assert {name for name in first if not torch.equal(first[name], second[name])} == set()
    assert torch.equal(ranks[0]["learning_rate"], ranks[1]["learning_rate"])


def test_rank_0_decides_and_both_evolve(ranks: list[dict[str, Any]]) -> None:
    # 2 ranks x 16 envs x 4 steps: 128 env steps an iteration, a generation every second of eight iterations
    assert [rank["generations"] for rank in ranks] == [4, 4]
    assert [rank["env_steps"] for rank in ranks] == [1024, 1024]


def test_the_normaliser_is_that_of_the_concatenated_data(ranks: list[dict[str, Any]]) -> None:
    observations = torch.cat([rank["observations"].flatten(0, 1) for rank in ranks]).double()
    policy = ranks[0]["policy"]
    assert policy["obs_moments.count"] == len(observations) == 1024
    torch.testing.assert_close(policy["obs_moments.mean"], observations.mean(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(policy["obs_moments.var"], observations.var(0, correction=0), rtol=0, atol=1e-6)


def test_ranks_see_different_worlds_but_log_the_same_population(ranks: list[dict[str, Any]]) -> None:
    assert not torch.equal(ranks[0]["observations"], ranks[1]["observations"])
    assert ranks[0]["return_mean"] == ranks[1]["return_mean"]


def test_every_agent_is_told_over_both_ranks(ranks: list[dict[str, Any]]) -> None:
    # episodes last 3 steps on one rank and 7 on the other: after 32 steps all environments have finished some
    assert ranks[0]["agents"] == ranks[1]["agents"]
    names = {f"agents/{name}/{k}" for name in ("return", "entropy", "kl_to_master") for k in range(4)}
    assert set(ranks[0]["agents"]) >= names - {"agents/kl_to_master/0"}
    own = torch.stack([rank["own_kl"] for rank in ranks])
    assert not torch.equal(own[0, 1:], own[1, 1:])
    torch.testing.assert_close(ranks[0]["kl_to_master"], own.mean(0), equal_nan=True)
    first, second = (rank["log_mu"].double().exp() for rank in ranks)
    for agent, weights in ((1, torch.cat([first[:2], second[:2]])), (2, first[2:]), (3, second[2:])):
        wanted = weights.sum().square() / (weights.square().sum() * weights.numel())
        for rank in ranks:
            torch.testing.assert_close(rank["ess"][agent], wanted)


def test_each_rank_couples_followers_to_its_own_part_of_the_master(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        counts = torch.bincount(rank["coupled"], minlength=4)  # 4 environments x 2 of 3 followers
        assert counts[0] == 0
        assert sorted(counts[1:].tolist()) == [2, 3, 3]
    assert ranks[0]["coupling_loss"] != ranks[1]["coupling_loss"]


def test_fitness_is_that_of_the_environments_of_both_ranks(ranks: list[dict[str, Any]]) -> None:
    by_hand = torch.stack([rank["fitness_of_envs"] for rank in ranks]).double()  # 4 environments an agent and rank
    by_hand = by_hand.view(2, 3, 4, 4).mean((0, 3))
    torch.testing.assert_close(ranks[0]["fitness"], by_hand, rtol=1e-12, atol=0)
    assert torch.equal(ranks[0]["fitness"], ranks[1]["fitness"])
    assert torch.equal(ranks[0]["individuals"], ranks[1]["individuals"])


def test_soft_actor_critic_learns_one_network_from_two_replays(tmp_path: Path) -> None:
    first, second = trained("two_ranks_sac", tmp_path)
    weights = first["weights"]
    assert {name for name in weights if not torch.equal(weights[name], second["weights"][name])} == set()
    for number, moments in first["optimizer"].items():
        for name, value in moments.items():
            assert torch.equal(value, second["optimizer"][number][name])
    assert {name.split(".")[0] for name in weights} == {"policy", "critic", "target_critic", "log_temperature"}
    assert not torch.equal(first["stored"], second["stored"])
    # 2 ranks x 16 envs x 4 steps x 4 iterations; the normaliser has seen all of it
    assert first["env_steps"] == weights["policy.obs_moments.count"] == 512
    assert first["updates"] == 4 * 2
    stored = torch.cat([first["stored"], second["stored"]]).double()
    torch.testing.assert_close(weights["policy.obs_moments.mean"], stored.mean(0), rtol=0, atol=1e-6)


def test_parallel_q_learning_learns_one_network_from_two_replays_and_spreads_its_noise_over_both(
    tmp_path: Path,
) -> None:
    first, second = trained("two_ranks_pql", tmp_path)
    weights = first["weights"]
    assert {name for name in weights if not torch.equal(weights[name], second["weights"][name])} == set()
    for number, moments in first["optimizer"].items():
        for name, value in moments.items():
            assert torch.equal(value, second["optimizer"][number][name])
    assert not torch.equal(first["stored"], second["stored"])
    assert first["env_steps"] == weights["policy.obs_moments.count"] == 512
    assert first["updates"] == 4 * 2
    torch.testing.assert_close(torch.cat([first["sigmas"], second["sigmas"]]), torch.linspace(0.05, 0.8, 32))
