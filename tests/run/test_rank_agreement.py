"""Ranks must train the same; the line names who does not, and in what."""

import copy
from typing import Any

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.run.rank_agreement import common_facts, require_agreement
from epo_lightning.run.rank_lines import Place

PLACES = [Place(rank, f"node{rank}", 100 + rank) for rank in range(3)]
CONFIG = "data: {num_envs: 8, env: {class_path: tests.support.wages.Wages}}\nmodel: {loss: {clip_eps: 0.2}}\n"


@pytest.fixture
def facts() -> list[dict[str, Any]]:
    return [copy.deepcopy(common_facts(CONFIG, {"the checkpoint's iteration": 7})) for _ in PLACES]


def test_ranks_that_have_all_in_common_agree(facts: list[dict[str, Any]]) -> None:
    require_agreement(facts, PLACES)


def refusal(facts: list[dict[str, Any]]) -> str:
    with pytest.raises(Mistake) as refused:
        require_agreement(facts, PLACES)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_another_configuration_is_told_key_by_key(facts: list[dict[str, Any]]) -> None:
    facts[2]["config"] = CONFIG.replace("0.2", "0.3").replace("8", "16")
    assert refusal(facts).startswith(
        "rank 2 (process 102 on node2) does not train what rank 0 (process 100 on node0) does: data.num_envs 16 and not"
        " 8; model.loss.clip_eps 0.3 and not 0.2: give all ranks the same"
    )


def test_other_versions_are_told_and_what_is_missing(facts: list[dict[str, Any]]) -> None:
    torch = facts[0]["versions"]["torch"]
    facts[1]["versions"] |= {"torch": "1.0", "mujoco": None, "gymnasium": "9"}
    mujoco, gymnasium = (facts[0]["versions"].get(name) for name in ("mujoco", "gymnasium"))
    told = refusal(facts)
    assert f"torch 1.0 and not {torch}; mujoco None and not {mujoco}; gymnasium 9 and not {gymnasium}: give" in told


@pytest.mark.parametrize(("name", "words"), [("sources", "code of epo_lightning"), ("own", "code of your own classes")])
def test_other_code_is_told(facts: list[dict[str, Any]], name: str, words: str) -> None:
    facts[1][name] = "abcd"
    assert f"other {words} (sources abcd and not {facts[0][name]})" in refusal(facts)


def test_another_checkpoint_is_told(facts: list[dict[str, Any]]) -> None:
    facts[1]["checkpoint"]["the checkpoint's iteration"] = 6
    assert "the checkpoint's iteration 6 and not 7" in refusal(facts)


def test_many_differences_are_counted(facts: list[dict[str, Any]]) -> None:
    facts[1]["versions"] = {name: "0" for name in ("a", "b", "c", "d", "e")}
    assert "; and " in (told := refusal(facts))
    assert told.count(" and not ") == 3


def test_what_only_logs_may_differ(facts: list[dict[str, Any]]) -> None:
    assert not {"wandb", "tensorboard", "optuna"} & facts[0]["versions"].keys()
