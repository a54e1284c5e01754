"""The metric of a search: what is refused before any run has logged one."""

from typing import Any

import pytest

from epo_lightning.limits import Mistake
from epo_lightning.sweep.metric import require_metric

CONFIG = {"algorithm": "epo", "model": {"num_agents": 4}, "data": {"env": {"class_path": "epo_lightning.envs.X"}}}
MINE: dict[str, Any] = {**CONFIG, "trainer": {"callbacks": [{"class_path": "mine.Logs"}]}}


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("charts/episodic_sucesses", "no run logs charts/episodic_sucesses (did you mean charts/episodic_successes?)"),
        ("charts/nothing", "no run logs charts/nothing; there are charts/env_steps, "),
        ("episodic_return", "no run logs episodic_return (did you mean charts/episodic_return?)"),
        ("episodic_sucesses", "(did you mean charts/episodic_successes?)"),
        ("agents/return/4", "agents/return/4 is of an agent that there is not: model.num_agents is 4, from 0"),
        ("time/utc", "time/utc is a time of day"),
    ],
)
def test_what_no_run_logs_is_refused_with_the_nearest(metric: str, words: str) -> None:
    with pytest.raises(Mistake) as caught:
        require_metric("s.yaml: search.metric", metric, CONFIG, agents_may_vary=False)
    assert str(caught.value).startswith("s.yaml: search.metric: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "metric",
    [
        "charts/episodic_return",
        "charts/episodic_successes",
        "charts/sps",
        "charts/generation",
        "agents/return/3",
        "env/anything",
        "losses/anything",
        "population/anything",
        "time/learning",
        "score",
    ],
)
def test_what_a_run_may_log_is_not(metric: str) -> None:
    require_metric("", metric, CONFIG, agents_may_vary=False)


def test_where_the_number_of_agents_is_searched_any_agent_may_be_meant() -> None:
    require_metric("", "agents/return/4", CONFIG, agents_may_vary=True)


def test_classes_of_ones_own_may_log_what_they_like() -> None:
    require_metric("", "charts/episodic_sucesses", MINE, agents_may_vary=False)
