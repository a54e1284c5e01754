"""The experience of some ranks, dealt to another number of them: 2 agents, by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.dealing import Deal
from epo_lightning.experience.fitness import FitnessWindow
from epo_lightning.limits import Mistake

CPU = torch.device("cpu")
OF_FOUR = Population(2, 4)


def saved(rank: int, opened_at: int = 5) -> dict[str, Any]:
    """Four environments; each has ended one episode in the window with its number through the ranks, and runs on."""
    number = torch.arange(4.0) + 4 * rank
    zeros = torch.zeros(3, 4)
    flags = {name: torch.zeros(4, dtype=torch.bool) for name in ("has_finished", "began_late")}
    return {
        "env": {"rank": rank},
        "curriculum": {},
        "obs": number[:, None],
        "state": torch.zeros(0, 4, 1),
        "ledger": {"running": zeros + 1, "last": zeros + number, **flags, "has_succeeded": torch.tensor(rank == 1)},
        "fitness": {
            "total": zeros + number,
            "count": torch.ones(4, dtype=torch.long),
            "is_old": torch.zeros(4, dtype=torch.bool),
            "before": zeros,
            "opened_at": opened_at,
            "gone": None,
        },
        "replay": {"capacity_per_env": 3, "position": 2, "rows": number[None, :, None].expand(2, 4, 1).clone()},
        "generator": rank,
        "env_steps": 80,
    }


TWO = [saved(0), saved(1)]


def measured(states: list[dict[str, Any]], population: Population) -> Tensor:
    """(K,) the mean return of each agent that a window on one rank tells: here of all `states` together."""
    means = []
    for state in states:
        window = FitnessWindow(population, CPU)
        window.load_state_dict(state["fitness"])
        means.append(window.measure(state["ledger"]["running"])[0])
    return torch.stack(means).mean(0)


def test_agents_keep_their_environments() -> None:
    # agent 0 has environments 0, 1 of rank 0 and 4, 5 (0, 1 of rank 1); agent 1 the others
    assert Deal(TWO, 0, 1, Population(2, 8)).sources.tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert Deal(TWO, 1, 4, Population(2, 2)).sources.tolist() == [1, 3]
    assert Deal(TWO, 2, 3, OF_FOUR).sources.tolist() == [-1] * 4


def test_the_masters_share_is_dealt_to_the_master() -> None:
    wide = Population(3, 8, 0.5)  # 4 of the master, 2 of each follower
    states = [{"obs": torch.zeros(8, 1)}] * 2
    assert Deal(states, 0, 1, Population(3, 16, 0.5)).sources.tolist() == [
        0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,
    ]  # fmt: skip
    assert Deal(states, 0, 1, wide).left_over.tolist() == [False] * 8 + [True] * 8


def test_the_same_ranks_are_as_they_were() -> None:
    state = Deal(TWO, 1, 3, OF_FOUR).state()
    assert state["env"] == {"rank": 1}
    assert state["fitness"] == TWO[1]["fitness"]
    assert all(state[name] is value for name, value in TWO[1].items() if name != "fitness")


def test_fitness_is_as_it_was_when_all_environments_stay() -> None:
    state = Deal(TWO, 0, 1, Population(2, 8)).state()
    before = measured(TWO, OF_FOUR)
    assert before.tolist() == [(0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4]
    assert torch.equal(measured([state], Population(2, 8)), before)
    assert state["fitness"]["gone"] is None
    assert state["env"] is None
    assert not state["ledger"]["running"].any()
    assert state["ledger"]["last"][0].tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert bool(state["ledger"]["has_succeeded"])
    assert state["env_steps"] == 80


def test_fitness_is_as_it_was_when_some_end() -> None:
    state = Deal(TWO, 0, 1, OF_FOUR).state()
    assert state["env"] == {"rank": 0}
    assert state["fitness"]["gone"]["total"][0].tolist() == [4 + 5, 6 + 7]
    assert state["fitness"]["gone"]["count"].tolist() == [2, 2]
    assert torch.equal(measured([state], OF_FOUR), measured(TWO, OF_FOUR))


def test_who_has_gone_before_is_not_forgotten() -> None:
    four = [saved(rank) for rank in range(4)]
    two = [Deal(four, rank, 2, OF_FOUR).state() for rank in range(2)]
    (one,) = [Deal(two, 0, 1, OF_FOUR).state()]
    assert one["fitness"]["gone"]["count"].tolist() == [6, 6]
    assert torch.equal(measured([one], OF_FOUR), measured(four, OF_FOUR))


def test_a_new_window_knows_nobody_who_has_gone() -> None:
    window = FitnessWindow(OF_FOUR, CPU)
    window.load_state_dict(Deal(TWO, 0, 1, OF_FOUR).state()["fitness"])
    window.open(torch.zeros(3, 4), 100)
    assert window.state_dict()["gone"] is None
    assert window.measure(torch.zeros(3, 4))[0].tolist() == [0, 0]


def test_new_environments_have_no_past_but_remember_what_others_do() -> None:
    state = Deal(TWO, 2, 3, OF_FOUR).state()
    assert state["env"] is None
    assert not state["fitness"]["count"].any()
    assert not state["ledger"]["has_finished"].any()
    assert torch.equal(state["replay"]["rows"], TWO[0]["replay"]["rows"])


def test_memories_are_dealt_by_column() -> None:
    assert Deal(TWO, 0, 1, Population(2, 8)).state()["replay"]["rows"][0, :, 0].tolist() == [*range(8)]
    assert Deal(TWO, 3, 4, Population(2, 2)).state()["replay"]["rows"][1, :, 0].tolist() == [6, 7]


def test_the_line_counts_environments() -> None:
    assert Deal(TWO, 0, 1, OF_FOUR).told() == (
        "Ranks: the checkpoint has 2 x 4 environments, this run 1 x 4: 4 environments go on, 0 begin new episodes, 4"
        " end; weights, normalisers, fitness and counters are as they were"
        " (as many as before in all: --data.num_envs 8)"
    )
    assert "0 environments go on, 8 begin new episodes; weights" in Deal(TWO, 0, 1, Population(2, 8)).told()


def test_a_task_that_cannot_begin_at_its_difficulty_says_so() -> None:
    env = Probe(4, CPU, 0)
    env.begin_at({})
    with pytest.raises(Mistake, match=r"Probe cannot go on on another number of ranks.*begin_at"):
        env.begin_at({"height": 1.0})
