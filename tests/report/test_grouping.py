"""Which runs belong together, and what they are called."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from epo_lightning.report.grouping import Group, differences, group
from epo_lightning.report.reading import find_runs, read_run
from epo_lightning.report.study_names import StudyNames, as_text
from tests.support.run_folders import make_run

EDITS = [
    ("seed_everything: 0", "seed_everything: 5"),
    ("trainer:", "checkpoint: {max_share: 0.5}\ntrainer:"),
    ("trainer:", "trainer:\n  accelerator: gpu\n  logger: {class_path: some.Logger}\n  max_time: null"),
    ("seed: null", "seed: 4"),
    ("callbacks.NaNGuard", "callbacks.VideoRecorder"),
    ("max_steps: 100", "max_steps: 100, threads: 3"),
    ("data:", "data:\n  eval_seeds: 9"),
    ("algorithm: epo\n", ""),
]


def grouped(folder: Path) -> list[Group]:
    return group([read_run(path) for path in sorted(folder.iterdir())])


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_runs_that_differ_in_what_is_a_runs_own_are_one_method(tmp_path: Path, old: str, new: str) -> None:
    make_run(tmp_path / "a", agents=4, evolves=True)
    other = make_run(tmp_path / "b", agents=4, evolves=True) / "config.yaml"
    assert old in other.read_text()
    other.write_text(other.read_text().replace(old, new))
    (one,) = grouped(tmp_path)
    assert len(one.runs) == 2


@pytest.mark.parametrize(("rate", "groups"), [(1.0, 1), (0.25, 2)])
def test_a_run_of_before_a_setting_is_a_seed_of_those_that_do_as_it_did(
    tmp_path: Path, rate: float, groups: int
) -> None:
    make_run(tmp_path / "before")
    since = make_run(tmp_path / "since", seed=1) / "config.yaml"
    since.write_text(since.read_text().replace("model:", f"model:\n  optimizer: {{gene_rate: {rate}}}"))
    assert len(grouped(tmp_path)) == groups


@pytest.mark.parametrize(
    ("algorithm", "told", "groups"),
    [
        ("epo", "rollout: {correlated_share: 1.0}", 1),
        ("epo", "rollout: {correlated_share: 0.5}", 2),
        ("epo", "network: {shared_log_std: false}", 1),
        ("epo", "network: {shared_log_std: true}", 2),
        ("pbt", "network: {image_channels: [16, 32, 32], image_features: 64}", 1),
        ("sac", "network: {image_channels: [16, 32, 32], image_features: 64}", 1),
        ("cem_rl", "network: {image_channels: [16, 32, 32], image_features: 64}", 1),
        ("pql", "network: {image_channels: [8], image_features: 64}", 2),
    ],
)
def test_settings_that_came_or_went_part_no_seeds_where_they_do_nothing(
    tmp_path: Path, algorithm: str, told: str, groups: int
) -> None:
    for seed, more in enumerate(("", told)):
        config = make_run(tmp_path / str(seed), seed=seed) / "config.yaml"
        content = yaml.safe_load(config.read_text()) | {"algorithm": algorithm, "model": yaml.safe_load(more) or {}}
        config.write_text(yaml.safe_dump(content))
    assert len(grouped(tmp_path)) == groups


def test_a_run_that_begins_with_a_policy_is_no_seed_of_one_that_learned_everything_itself(tmp_path: Path) -> None:
    make_run(tmp_path / "a", agents=4, evolves=True)
    begun, gone_on = (make_run(tmp_path / name, agents=4, evolves=True) / "run.json" for name in ("b", "c"))
    policy = {"begins_with": {"policy": "quickstart", "id": "c3457d81cacb0fe8"}}
    begun.write_text(json.dumps(policy))
    gone_on.write_text(json.dumps({"earlier": [policy]}))
    apart, alone = sorted(grouped(tmp_path), key=lambda each: -len(each.runs))
    assert [run.path.name for run in apart.runs] == ["b", "c"]
    assert (len(alone.runs), "begins_with quickstart" in apart.label) == (1, True)


def test_seeds_are_in_order(tmp_path: Path) -> None:
    for name, seed in (("a", 10), ("b", 9), ("c", 0)):
        make_run(tmp_path / name, seed=seed)
    (one,) = grouped(tmp_path)
    assert [run.seed for run in one.runs] == [0, 9, 10]


@pytest.mark.parametrize(
    ("made", "label"),
    [
        ({"agents": 1}, "ppo (1 agent)"),
        ({"agents": 16}, "sapg, 16 agents"),
        ({"agents": 16, "coupling": 0.0}, "sapg, 16 agents"),
        ({"agents": 16, "coupling": 1e-3}, "cpo, 16 agents"),
        ({"agents": 16, "coupling": 1e-3, "evolves": True}, "epo + cpo, 16 agents"),
        ({"agents": 16, "evolves": True}, "epo, 16 agents"),
        ({"algorithm": "sac"}, "sac"),
        ({"algorithm": "sac", "agents": 4}, "sac, 4 agents"),
        ({"algorithm": "sac", "agents": 4, "evolves": True}, "sac, 4 agents that evolve"),
        ({"algorithm": "mine.Reinforce"}, "Reinforce"),
    ],
)
def test_a_method_is_told_in_words(tmp_path: Path, made: dict[str, Any], label: str) -> None:
    make_run(tmp_path / "a", **made)
    (one,) = grouped(tmp_path)
    assert one.label == label


def test_only_methods_of_the_same_name_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    make_run(tmp_path / "a", entropy=0.1)
    make_run(tmp_path / "b", entropy=0.25)
    make_run(tmp_path / "c", agents=4)
    make_run(tmp_path / "d", seed=1, entropy=0.25)
    assert {one.label: len(one.runs) for one in grouped(tmp_path)} == {
        "ppo (1 agent), entropy_scale 0.1": 1,
        "ppo (1 agent), entropy_scale 0.25": 2,
        "sapg, 4 agents": 1,
    }


def test_every_label_of_a_task_is_another_one(tmp_path: Path) -> None:
    # of four settings that differ only three are told
    for name, last in (("a", 1), ("b", 2)):
        config = make_run(tmp_path / name) / "config.yaml"
        config.write_text(f"m: 0\nn: 0\no: 0\np: {last}\n{config.read_text()}")
    config = make_run(tmp_path / "c") / "config.yaml"
    config.write_text(f"m: 1\nn: 1\no: 1\np: 1\n{config.read_text()}")
    labels = [one.label for one in grouped(tmp_path)]
    assert sorted(labels) == [
        "ppo (1 agent), m 0, n 0, o 0",
        "ppo (1 agent), m 0, n 0, o 0 #2",
        "ppo (1 agent), m 1, n 1, o 1",
    ]


def test_tasks_are_told_apart_by_their_settings_where_they_have_one_name(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", task="Probe")
    config = make_run(tmp_path / "c") / "config.yaml"
    config.write_text(config.read_text().replace("max_steps: 100", "max_steps: 50"))
    assert [one.task for one in grouped(tmp_path)] == ["Probe", "WallMaze, max_steps 100", "WallMaze, max_steps 50"]


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ("{class_path: epo_lightning.envs.gymnasium.GymnasiumEnv, init_args: {id: Pendulum-v1}}", "Pendulum-v1"),
        (
            "{class_path: epo_lightning.envs.allegro_kuka.AllegroKuka, init_args: {task: two_arm}}",
            "AllegroKuka/two_arm",
        ),
        ("{class_path: mine.Maze}", "Maze"),
    ],
)
def test_a_task_is_called_by_its_class_or_its_own_name(tmp_path: Path, env: str, name: str) -> None:
    config = make_run(tmp_path / "a") / "config.yaml"
    whole = "{class_path: epo_lightning.envs.classic.WallMaze, init_args: {max_steps: 100}}"
    assert whole in config.read_text()
    config.write_text(config.read_text().replace(whole, env))
    (one,) = grouped(tmp_path)
    assert one.task == name


def test_settings_in_which_methods_differ_have_a_value_of_each(tmp_path: Path) -> None:
    make_run(tmp_path / "a", agents=4, evolves=True)
    make_run(tmp_path / "b", agents=4, entropy=0.5)
    epo, sapg = grouped(tmp_path)
    assert (epo.evolves, sapg.evolves) == (True, False)
    assert differences([epo, sapg]) == {
        "model.loss.entropy_scale": [0.1, 0.5],
        "GeneticEvolution": [True, None],
        "GeneticEvolution.num_elites": [1, None],
        "GeneticEvolution.spread_threshold": [0.5, None],
    }


def test_runs_of_a_study_are_called_as_it_calls_them(tmp_path: Path) -> None:
    named = {"one/ours": 16, "one/other": 16, "two/ours": 64}
    for folder, agents in named.items():
        for seed in (0, 1):
            make_run(tmp_path / folder / f"seed{seed}", seed=seed, agents=agents)
        task, method = folder.split("/")
        (tmp_path / folder / "study.json").write_text(as_text(StudyNames(task, method)))
    make_run(tmp_path / "alone", agents=16)
    (tmp_path / "study.json").write_text('{"task": 3, "method": "x\\n"}')  # which means nothing
    groups = group([read_run(path) for path in find_runs([tmp_path])])
    assert [(one.task, one.label, len(one.runs)) for one in groups] == [
        ("WallMaze", "sapg, 16 agents", 1),
        ("one", "other", 2),  # with the same settings: two methods all the same
        ("one", "ours", 2),
        ("two", "ours", 2),  # in the same environments: another task all the same
    ]
