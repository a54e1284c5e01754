"""Two gloo ranks on one machine train one model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import elu, linear

ROOT = Path(__file__).parents[2]


def trained(program: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What both ranks of a program held at the end of each of its trainings, by their names."""
    command = [sys.executable, "-m", f"tests.support.{program}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return {
        each.name: [torch.load(each / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
        for each in folder.iterdir()
    }


@pytest.fixture(scope="module")
def populations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Eight iterations with evolution: alone, and with followers that are coupled and rewarded for diversity."""
    return trained("two_ranks", tmp_path_factory.mktemp("ddp"))


@pytest.fixture(scope="module", params=["plain", "coupled"])
def ranks(request: pytest.FixtureRequest, populations: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Both ranks of one of them."""
    return populations[request.param]


@pytest.fixture(scope="module")
def replays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Soft actor-critic and Parallel Q-Learning."""
    return trained("two_ranks_replay", tmp_path_factory.mktemp("replays"))


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
    # episodes last 3 steps on one rank and 7 on the other: after 32 steps all environments have finished some, but
    # not those of followers that are children of a generation not long ago
    assert ranks[0]["agents"] == ranks[1]["agents"]
    names = {f"agents/{name}/{k}" for name in ("entropy", "kl_to_master") for k in range(4)} | {"agents/return/0"}
    assert set(ranks[0]["agents"]) >= names - {"agents/kl_to_master/0"}
    own = torch.stack([rank["own_kl"] for rank in ranks])
    assert not torch.equal(own[0, 1:], own[1, 1:])
    torch.testing.assert_close(ranks[0]["kl_to_master"], own.mean(0), equal_nan=True)
    first, second = (rank["log_mu"].double().exp() for rank in ranks)
    for agent, weights in ((1, torch.cat([first[:2], second[:2]])), (2, first[2:]), (3, second[2:])):
        wanted = weights.sum().square() / (weights.square().sum() * weights.numel())
        for rank in ranks:
            torch.testing.assert_close(rank["ess"][agent], wanted)


def test_each_rank_couples_followers_to_its_own_part_of_the_master(
    populations: dict[str, list[dict[str, Any]]],
) -> None:
    ranks = populations["coupled"]
    for rank in ranks:
        counts = torch.bincount(rank["coupled"], minlength=4)  # 4 environments x 2 of 3 followers
        assert counts[0] == 0
        assert sorted(counts[1:].tolist()) == [2, 3, 3]
    assert ranks[0]["metrics"]["losses/coupling_loss"] != ranks[1]["metrics"]["losses/coupling_loss"]


def test_one_classifier_tells_the_agents_of_both_ranks_apart(populations: dict[str, list[dict[str, Any]]]) -> None:
    first, second = (rank["diversity"] for rank in populations["coupled"])
    assert first["weights"].keys() == second["weights"].keys()
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    for number, moments in first["optimizer"]["state"].items():
        assert moments["step"] == 8 * 3
        assert all(torch.equal(value, second["optimizer"]["state"][number][name]) for name, value in moments.items())
    bonuses = [rank["metrics"]["losses/diversity_bonus"] for rank in populations["coupled"]]
    assert bonuses[0] != bonuses[1]
    assert [rank["diversity"] for rank in populations["plain"]] == [{}, {}]


def test_fitness_is_that_of_the_environments_of_both_ranks(ranks: list[dict[str, Any]]) -> None:
    by_hand = torch.stack([rank["fitness_of_envs"] for rank in ranks]).double()  # 4 environments an agent and rank
    by_hand = by_hand.view(2, 3, 4, 4).mean((0, 3))
    torch.testing.assert_close(ranks[0]["fitness"], by_hand, rtol=1e-12, atol=0)
    assert torch.equal(ranks[0]["fitness"], ranks[1]["fitness"])
    assert torch.equal(ranks[0]["individuals"], ranks[1]["individuals"])


@pytest.mark.parametrize("name", ["sac", "pql"])
def test_both_ranks_learn_one_network_from_two_replays(replays: dict[str, list[dict[str, Any]]], name: str) -> None:
    first, second = replays[name]
    weights = first["weights"]
    assert {name for name in weights if not torch.equal(weights[name], second["weights"][name])} == set()
    for number, moments in first["optimizer"].items():
        for key, value in moments.items():
            assert torch.equal(value, second["optimizer"][number][key])
    parts = {"policy", "critic", "target_critic", *(["log_temperature"] if name == "sac" else [])}
    assert {name.split(".")[0] for name in weights} == parts
    assert not torch.equal(first["stored"], second["stored"])
    # 2 ranks x 16 envs x 4 steps x 4 iterations; the normaliser has seen all of it
    assert first["env_steps"] == weights["policy.obs_moments.count"] == 512
    assert first["updates"] == 4 * 2


def test_the_normaliser_has_seen_both_replays(replays: dict[str, list[dict[str, Any]]]) -> None:
    stored = torch.cat([rank["stored"] for rank in replays["sac"]]).double()
    mean = replays["sac"][0]["weights"]["policy.obs_moments.mean"]
    torch.testing.assert_close(mean, stored.mean(0), rtol=0, atol=1e-6)


def test_the_noise_of_parallel_q_learning_is_spread_over_both_ranks(replays: dict[str, list[dict[str, Any]]]) -> None:
    sigmas = torch.cat([rank["sigmas"] for rank in replays["pql"]])
    torch.testing.assert_close(sigmas, torch.linspace(0.05, 0.8, 32))


def test_two_ranks_learn_what_one_would_from_both_minibatches(replays: dict[str, list[dict[str, Any]]]) -> None:
    """Parallel Q-Learning written out for one process: each of its minibatches is those of both ranks together."""
    first, second = replays["pql"]
    start, end = first["initial"], first["weights"]
    assert all(torch.equal(value, second["initial"][name]) for name, value in start.items())
    critics = {name: value.clone().requires_grad_() for name, value in start.items() if name.startswith("critic.")}
    actor = {name: value.clone().requires_grad_() for name, value in start.items() if name.startswith("policy.mlp.")}
    targets = {name: start[f"target_{name}"].clone() for name in critics}
    groups = [{"params": [*network.values()]} for network in (actor, critics)]
    adam = torch.optim.AdamW(groups, 3e-4, (0.9, 0.95), weight_decay=1e-3)

    def layers(weights: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
        hidden = elu(linear(x, weights[f"{prefix}.0.weight"], weights[f"{prefix}.0.bias"]))
        return linear(hidden, weights[f"{prefix}.2.weight"], weights[f"{prefix}.2.bias"])

    def smaller(weights: dict[str, Tensor], obs: Tensor, actions: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = torch.cat([obs, actions], -1)
        values = [layers(weights, f"critic.critics.{number}", x).squeeze(-1) for number in (0, 1)]
        return torch.minimum(*values), values

    def step(loss: Tensor, parameters: list[Tensor]) -> None:
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        adam.zero_grad()

    minibatches = zip(first["learnt"], second["learnt"], strict=True)
    for number, halves in enumerate(minibatches):
        both = {key: torch.cat([half[key] for half in halves]) for key in halves[0]}
        with torch.no_grad():
            following, _ = smaller(targets, both["next_obs"], layers(actor, "policy.mlp", both["next_obs"]).tanh())
            wanted = both["rewards"] + both["discount"] * following
        _, values = smaller(critics, both["obs"], both["actions"])
        step(sum(((value - wanted) ** 2).mean() for value in values), [*critics.values()])  # type: ignore[arg-type]
        for name, value in targets.items():
            value.lerp_(critics[name].detach(), 0.05)
        if number % 2:
            value, _ = smaller(critics, both["obs"], layers(actor, "policy.mlp", both["obs"]).tanh())
            step(-value.mean(), [*actor.values()])
    assert number == 12 * 2 - 1  # the fifth of 16 env steps is the first that is learnt from
    for name, value in (critics | actor).items():
        assert not torch.equal(start[name], end[name])
        torch.testing.assert_close(value, end[name], rtol=0, atol=2e-6)


def test_population_based_training_decides_once_for_both_ranks(tmp_path: Path) -> None:
    first, second = trained("two_ranks_pbt", tmp_path)["pbt"]
    weights = first["weights"]
    assert {name for name in weights if not torch.equal(weights[name], second["weights"][name])} == set()
    for number, moments in first["optimizer"].items():
        for name, value in moments.items():
            assert torch.equal(value, second["optimizer"][number][name])
    assert first["lineage"] == second["lineage"]
    assert any(record["children"] for record in first["lineage"])
    assert first["training"]["generations"] == second["training"]["generations"] == len(first["lineage"])
    for name in ("records", "best", "checked", "began"):
        torch.testing.assert_close(first["training"][name], second["training"][name], rtol=0, atol=0, equal_nan=True)
    # an agent is worth what the episodes of its environments on both ranks returned
    assert not torch.equal(first["observations"], second["observations"])
    by_hand = torch.stack([first["last"], second["last"]]).double().view(2, 4, 4).mean((0, 2))
    known = ~first["objectives"].isnan()
    assert known.any()
    torch.testing.assert_close(first["objectives"][known], by_hand[known], rtol=1e-12, atol=0)
    torch.testing.assert_close(second["objectives"], first["objectives"], rtol=0, atol=0, equal_nan=True)


def test_cem_rl_draws_one_population_on_both_ranks_and_measures_it_in_the_environments_of_both(tmp_path: Path) -> None:
    first, second = trained("two_ranks_cem_rl", tmp_path)["cem_rl"]
    weights = first["weights"]
    assert {name for name in weights if not torch.equal(weights[name], second["weights"][name])} == set()
    for number, moments in first["optimizer"].items():
        for name, value in moments.items():
            assert torch.equal(value, second["optimizer"][number][name])
    assert not torch.equal(first["stored"], second["stored"])
    # 2 ranks x 10 envs; with horizon 7 the short episodes are 1 step old when a generation ends, which costs nothing
    assert first["env_steps"] == weights["policy.obs_moments.count"] == 3 * 2 * 10 * 7
    assert first["updates"] == second["updates"] == 2 * (round(0.05 * 7 * 2 * 8) // 2)
    by_hand = torch.stack([first["of_envs"], second["of_envs"]]).double().view(2, 3, 5, 2).mean((0, 3))
    torch.testing.assert_close(first["fitness"], by_hand, rtol=1e-6, atol=1e-6)
    assert torch.equal(first["fitness"], second["fitness"])
    assert first["generation"] == second["generation"]
    assert first["generation"]["gradient_members"] == 2
