"""The table of an evaluation: a dash for what nobody knows."""

import math

from epo_lightning.experience.evaluation import Summary
from epo_lightning.run.evaluation_report import table


def test_a_task_without_successes_shows_a_dash() -> None:
    told = table({"return": Summary(1.5, 0.25, [1.5], math.nan), "successes": Summary(0.0, 0.0, [0.0], math.nan)})
    assert [line.split() for line in told.splitlines()[1:]] == [["return", "1.5", "0.25"], ["successes", "-", "-"]]


def test_rare_successes_are_told() -> None:
    told = table({"successes": Summary(0.005, math.nan, [0.0, 0.01], 0.005)})
    assert told.splitlines()[1].split() == ["successes", "0.005", "-", "0.005"]
