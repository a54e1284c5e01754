"""What an adapter in another interpreter says of its entries; what managers of Isaac Lab and mjlab do."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.check import check_env
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.envs.worker import WorkerEnv
from epo_lightning.envs.worker.remote.observed import Part
from epo_lightning.envs.worker.remote.terms import action_terms, observation_terms
from epo_lightning.envs.worker.signals import told_signals
from epo_lightning.limits import Mistake

SPEC = EnvSpec("Arm", 4, 3, 2)
DEFAULT = Signals((Signal("observation", 3),), (Signal("action", 2),))
JOINTS = {"name": "joints", "size": 2, "unit": "rad", "meaning": "elbow, wrist"}
ADAPTER = """
import numpy as np

class Arm:
    obs_dim, act_dim = 3, 2
    def __init__(self, num_envs, how):
        self.num_envs = num_envs
        if how == "told":
            seen = [{"name": "joints", "size": 2, "unit": "rad"}, {"name": "load", "size": 1}]
            torque = {"name": "torque", "size": 2, "unit": "N m", "low": (-1, -2.5), "high": (1, 2.5)}
            self.signals = {"observation": seen, "action": [torque]}
        elif how == "array":
            self.signals = {"observation": np.ones(3)}
        elif how == "short":
            self.signals = {"observation": [{"name": "joints", "size": 2}]}
    def reset(self):
        return np.zeros((self.num_envs, 3), np.float32)
    def step(self, actions):
        no = np.zeros(self.num_envs, bool)
        return self.reset(), actions[:, 0], no, no, {}

def make(num_envs, seed, how):
    return Arm(num_envs, how)
"""


def arm(folder: Path, how: str) -> WorkerEnv:
    file = folder / "arm.py"
    file.write_text(ADAPTER)
    return WorkerEnv(2, torch.device("cpu"), 0, sys.executable, f"{file}:make", {"how": how})


def test_an_adapter_tells_them(tmp_path: Path) -> None:
    env = arm(tmp_path, "told")
    check_env(env, 5)
    assert env.signals() == Signals(
        (Signal("joints", 2, "rad"), Signal("load", 1)), (Signal("torque", 2, "N m", "", (-1.0, -2.5), (1.0, 2.5)),)
    )
    env.close()


def test_nobody_must(tmp_path: Path) -> None:
    env = arm(tmp_path, "silent")
    assert env.signals() == DEFAULT
    env.close()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("array", r"the signals of what .*arm\.py:make returns must be dicts, lists, texts and numbers, .* ndarray"),
        ("short", r"an adapter's signals\(\): the observation's entries are 2 numbers, the environment has 3"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_runs(tmp_path: Path, how: str, message: str) -> None:
    with pytest.raises(Mistake, match=message) as error:
        arm(tmp_path, how)
    assert "\n" not in str(error.value)


def test_a_kind_that_is_not_told_is_the_default() -> None:
    torque = {"name": "torque", "size": 2}
    assert told_signals({"action": [torque]}, DEFAULT, SPEC) == Signals(DEFAULT.observation, (Signal("torque", 2),))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([], "must be a dict with observation and action, got list"),
        ({"obs": []}, "must be a dict with observation and action, got obs"),
        ({"action": {}}, "must have a list under action, got dict"),
        (
            {"action": ["torque"]},
            "must be dicts with name and size, of name, size, unit, meaning, low, high; got torque",
        ),
        ({"action": [{"name": "torque"}]}, "must be dicts with name and size"),
        ({"action": [{"name": "a", "size": 2, "scale": 1}]}, "must be dicts with name and size"),
        ({"action": [{"name": "", "size": 2}]}, "must have texts for name, unit and meaning"),
        ({"action": [{"name": "a", "size": 2.0}]}, "a size of at least 1"),
        ({"action": [{"name": "a", "size": True}]}, "a size of at least 1"),
        ({"action": [{"name": "a", "size": 2, "unit": 1}]}, "must have texts"),
        ({"action": [{"name": "a", "size": 2, "low": [0, float("inf")], "high": [1, 1]}]}, "lists of finite numbers"),
        ({"action": [{"name": "a", "size": 2, "low": [0, 10**400], "high": [1, 1]}]}, "lists of finite numbers"),
        ({"action": [{"name": "a", "size": 2, "low": [0, float("nan")], "high": [1, 1]}]}, "lists of finite numbers"),
        ({"action": [{"name": "a", "size": 2, "low": [0], "high": [1]}]}, "a needs 2 numbers in low and high, or none"),
        ({"action": [{"name": "a", "size": 1}, {"name": "a", "size": 1}]}, "the names of the action's entries must"),
        ({"observation": [JOINTS]}, "the observation's entries are 2 numbers, the environment has 3"),
    ],
)
def test_what_does_not_read_as_signals_is_named(told: object, message: str) -> None:
    with pytest.raises(Mistake, match=f"^data.env: an adapter's .*{message}"):
        told_signals(told, DEFAULT, SPEC)


class Terms:
    """As the observation manager of Isaac Lab 2 and 3, and of mjlab."""

    active_terms: ClassVar = {"policy": ["joint_pos", "scan"], "critic": ["mass"], "loose": ["a", "b"]}
    group_obs_term_dim: ClassVar = {"policy": [(3,), (2, 2)], "critic": [(1,)], "loose": [(1,), (1,)]}


def test_terms_of_a_group_in_order() -> None:
    base, policy = SimpleNamespace(observation_manager=Terms), Part("policy", None, (7,), False)
    terms = [{"name": "joint_pos", "size": 3}, {"name": "scan", "size": 4}]
    assert observation_terms(base, [policy]) == terms
    several = [{"name": f"policy.{term['name']}", "size": term["size"]} for term in terms]
    critic = Part("critic", None, (1,), False)
    assert observation_terms(base, [policy, critic]) == [*several, {"name": "critic.mass", "size": 1}]
    assert observation_terms(base, [policy, critic._replace(privileged=True)]) == terms


@pytest.mark.parametrize(
    "base",
    [
        SimpleNamespace(),
        SimpleNamespace(observation_manager=Terms),
        SimpleNamespace(observation_manager=SimpleNamespace(active_terms={"loose": ["a"]})),  # of another version
    ],
)
def test_a_group_that_no_manager_explains_stands_for_itself(base: object) -> None:
    assert observation_terms(base, [Part("loose", None, (5,), False)]) == [{"name": "loose", "size": 5}]
    assert observation_terms(base, [Part("other", None, (2,), False)]) == [{"name": "other", "size": 2}]


LOW, HIGH = np.array([-1.0, -1.0, 0.0], np.float32), np.array([1.0, 1.0, 0.5], np.float32)


@pytest.mark.parametrize("key", ["target_names", "_joint_names"])
def test_terms_of_actions_name_what_they_drive(key: str) -> None:
    terms = {"legs": SimpleNamespace(**{key: ["hip", "knee"]}), "grip": SimpleNamespace(**{key: ["left", "right"]})}
    manager = SimpleNamespace(active_terms=[*terms], action_term_dim=[2, 1], get_term=terms.get)
    assert action_terms(SimpleNamespace(action_manager=manager), LOW, HIGH) == [
        {
            "name": "legs",
            "size": 2,
            "low": [-1.0, -1.0],
            "high": [1.0, 1.0],
            "meaning": "what the task is given for hip, knee, before its own scale and offset",
        },
        {  # two fingers by one number: whose it is stands in the task
            "name": "grip",
            "size": 1,
            "low": [0.0],
            "high": [0.5],
            "meaning": "what the task is given, before its own scale and offset",
        },
    ]


def meaning(**term: object) -> str:
    manager = SimpleNamespace(
        active_terms=["legs"],
        action_term_dim=[3],
        get_term=lambda _: SimpleNamespace(target_names=["a", "b", "c"], **term),
    )
    return str(action_terms(SimpleNamespace(action_manager=manager), LOW, HIGH)[0]["meaning"])


@pytest.mark.parametrize("own", ["", "_"])
def test_scale_and_offset_of_a_term_where_it_tells_them(own: str) -> None:
    offset = torch.tensor([[0.1, -0.25, 0.0]]).expand(4, -1)
    told = meaning(**{f"{own}scale": 0.5, f"{own}offset": offset})
    assert told == "x for a, b, c; the task takes x * scale + offset: scale 0.5; offset 0.1, -0.25, 0"
    assert "scale 1, 2, 3; offset 0" in meaning(scale=torch.tensor([1.0, 2.0, 3.0]), offset=0.0)


@pytest.mark.parametrize(
    "scale", [None, "wide", {"a": 1.0}, torch.ones(2), torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 2.0]])]
)
def test_not_where_it_differs_between_environments_or_cannot_be_read(scale: object) -> None:
    assert meaning(scale=scale, offset=0.0) == "what the task is given for a, b, c, before its own scale and offset"


def test_actions_without_a_manager_are_one_signal() -> None:
    for base in (SimpleNamespace(), SimpleNamespace(action_manager=SimpleNamespace(active_terms=["legs"]))):
        (only,) = action_terms(base, LOW, HIGH)
        assert (only["name"], only["size"], only["low"], only["high"]) == ("action", 3, LOW.tolist(), HIGH.tolist())
