"""The hyper-parameters of a population, as a table that callbacks write and checkpoints keep."""

import pytest
import torch

from epo_lightning.learner.hyper_parameters import HyperParameters

INITIAL = {"learning_rate": 3e-4, "gamma": 0.99, "target_kl": float("nan"), "reward.lift.bonus": 300.0}


def test_every_agent_begins_with_the_same_values_in_double_precision() -> None:
    table = HyperParameters(3, INITIAL)
    assert list(table) == list(INITIAL)
    assert table["learning_rate"].tolist() == [3e-4] * 3, "float32 would have rounded it"
    assert table["target_kl"].isnan().all()


def test_what_is_written_to_some_agents_leaves_the_others_and_the_other_names() -> None:
    table = HyperParameters(4, INITIAL)
    before = table.read()
    table.write(torch.tensor([3, 1]), {"gamma": torch.tensor([0.9, 0.95], dtype=torch.float64)})
    assert table["gamma"].tolist() == [0.99, 0.95, 0.99, 0.9]
    assert table["learning_rate"].equal(before["learning_rate"])
    assert before["gamma"].tolist() == [0.99] * 4, "what was read is a copy"


def test_a_name_that_is_not_there_is_a_bug() -> None:
    with pytest.raises(KeyError, match="gama"):
        HyperParameters(2, INITIAL).write(torch.tensor([0]), {"gama": torch.tensor([0.9])})


def test_the_tasks_reward_parameters_are_told_by_its_own_names() -> None:
    table = HyperParameters(2, INITIAL)
    table.write(torch.tensor([1]), {"reward.lift.bonus": torch.tensor([250.0])})
    (told,) = table.of_reward().items()
    assert told[0] == "lift.bonus"
    assert told[1].tolist() == [300.0, 250.0]


def test_a_checkpoint_keeps_every_value() -> None:
    saved, other = HyperParameters(2, INITIAL), HyperParameters(2, INITIAL)
    saved.write(torch.tensor([0]), {"reward.lift.bonus": torch.tensor([1.5]), "gamma": torch.tensor([0.5])})
    other.load_state_dict(saved.state_dict())
    assert all(other[name].equal(saved[name]) or name == "target_kl" for name in INITIAL)


def test_a_setting_that_is_set_anew_is_every_agents_and_the_others_stay() -> None:
    table = HyperParameters(2, INITIAL)
    table.write(torch.arange(2), {"gamma": torch.tensor([0.5, 0.6]), "learning_rate": torch.tensor([1e-3, 2e-3])})
    table.restart({**INITIAL, "gamma": 0.9})
    assert table["gamma"].tolist() == [0.9, 0.9]
    assert table["learning_rate"].tolist() == pytest.approx([1e-3, 2e-3])
    table.write(torch.tensor([0]), {"gamma": torch.tensor([0.8])})
    table.restart({**INITIAL, "gamma": 0.9, "target_kl": 0.01})
    assert table["gamma"].tolist() == pytest.approx([0.8, 0.9]), "it was set before"
    assert table["target_kl"].tolist() == [0.01, 0.01]
