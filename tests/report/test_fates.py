"""What became of the agents. Axes: T iterations, K agents."""

import numpy as np
import pytest

from epo_lightning.report.fates import descent, goal, told_descent, told_goals

RECORDS = [
    {"children": [3, 4], "parents": [[1, 2], [2, 1]]},
    {"children": [2], "parents": [[3, 1]]},  # 3 descends from 1
    {"children": [1, 4], "parents": [[4, 4], [2, 3]]},  # 4 descends from 2, and 2 from 1 by now
]


def test_every_child_has_the_founder_of_its_elite_parent() -> None:
    told = descent(RECORDS, 5)
    assert told.founder.tolist() == [0, 2, 1, 1, 1]
    assert told.age.tolist() == [3, 0, 1, 2, 0]


def test_parents_are_those_of_the_generation_before() -> None:
    """1 and 2 replace each other: both at once, not one after the other."""
    told = descent([{"children": [1, 2], "parents": [[2, 2], [1, 1]]}], 3)
    assert told.founder.tolist() == [0, 2, 1]


def test_descent_in_words() -> None:
    assert told_descent(RECORDS, 5) == (
        "After 3 generation(s) the 4 followers descend from 2 of the first ones (3 from 1, 1 from 2); the oldest is 2"
        " generation(s) old, the median 0.5."
    )


def test_of_many_families_the_largest_are_named() -> None:
    told = told_descent([{"children": [2], "parents": [[1, 1]]}], 12)
    assert "from 10 of the first ones (2 from 1, 1 from 3, 1 from 4, 1 from 5, 1 from 6, 1 from 7, 1 from 8, 1" in told
    assert "1 from 9, ...)" in told


@pytest.mark.parametrize(
    ("successes", "found", "lost"),
    [
        ([0, 0.4, 0.5, 0.3, 0.25, 0.24, 0.4, 0.6], [2, 7], [5]),  # of 1: from 0.5 on, until below 0.25
        ([np.nan, 1.0, np.nan, 0.0], [1], [3]),
        ([0.4, 0.4], [], []),
        ([], [], []),
    ],
)
def test_who_has_the_goal(successes: list[float], found: list[int], lost: list[int]) -> None:
    told = goal(np.array(successes), 1.0)
    assert (told.found, told.lost) == (found, lost)


STEPS = np.array([1000.0, 2000.0, 3000.0])
FOUND = "had the goal from 1,000 env steps on"


@pytest.mark.parametrize(
    ("master", "words"),
    [
        ([0.0, 0.9, 1.0], "had the goal from 2,000 env steps on"),
        (
            [1.0, 0.1, 0.1],
            "had the goal from 1,000 env steps on, lost it once, first at 2,000, has not got it at the end",
        ),
        ([1.0, 0.1, 1.0], "had the goal from 1,000 env steps on, lost it once, first at 2,000, has it at the end"),
        ([0.0, 0.9, 0.4], "had the goal from 2,000 env steps on"),
        ([0.0, 0.4, 0.4], "never had the goal (half of that)"),
    ],
)
def test_goals_in_words(master: list[float], words: str) -> None:
    successes = np.stack([master, [0.0, 2.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]], axis=1)
    scaled = successes * np.array([2.0, 1.0, 1.0, 1.0])
    assert told_goals(STEPS, scaled, has_master=True) == (
        f"Most successes an episode of any agent: 2. The master {words}. Of 3 follower(s) 2 had the goal (half of that)"
        " at some time, 1 at the end."
    )


def test_a_task_that_counts_none_is_not_told_of() -> None:
    assert told_goals(STEPS, np.full((3, 2), np.nan), has_master=True) == ""
    assert told_goals(STEPS, np.zeros((3, 2)), has_master=True) == ""


def test_agents_without_a_master_are_all_alike() -> None:
    successes = np.stack([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], axis=1)
    assert told_goals(STEPS, successes, has_master=False) == (
        "Most successes an episode of any agent: 1. Of 2 agent(s) 2 had the goal (half of that) at some time, 1 at the"
        " end."
    )
