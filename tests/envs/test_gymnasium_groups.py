"""Dict observations of Gymnasium are named groups, and keys may be for the critic alone."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.envs.check import check_env
from epo_lightning.learner.observations import Group
from epo_lightning.limits import Mistake
from tests.support.command_line import Cli

pytest.importorskip("gymnasium")
import gymnasium
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from epo_lightning.envs.gymnasium import GymnasiumEnv
from epo_lightning.envs.gymnasium.observations import ObservationRows

HERE = __name__
CPU = torch.device("cpu")
SPACE = spaces.Dict(
    gripper=spaces.Discrete(2),
    robot=spaces.Dict(mass=spaces.Box(0.0, 99.0, (1,)), pose=spaces.Box(0.0, 99.0, (2,))),
    world=spaces.Box(0.0, 99.0, (2,)),
)


class Nested(gymnasium.Env[Any, Any]):
    """Four steps an episode; every number tells its place and the step."""

    observation_space: Any = SPACE
    action_space: Any = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, lacks: str = "") -> None:
        self.clock, self.lacks = 0, lacks

    def look(self) -> dict[str, Any]:
        t = self.clock
        robot = {"mass": np.array([10.0 + t], np.float32), "pose": np.array([20.0 + t, 30.0 + t], np.float32)}
        seen = {"gripper": t % 2, "robot": robot, "world": np.array([40.0 + t, 50.0 + t], np.float32)}
        return {key: value for key, value in seen.items() if key != self.lacks or not t}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.clock = 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.clock += 1
        return self.look(), 1.0, False, self.clock == 4, {}


def next_step(num_envs: int) -> SyncVectorEnv:
    """A vector environment that resets in the step after an end."""
    return SyncVectorEnv([Nested] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)


def make(id: str = "Nested", vectorization: Any = "sync", privileged: Any = None, **env_args: Any) -> GymnasiumEnv:
    return GymnasiumEnv(2, CPU, 0, f"{HERE}:{id}", vectorization, env_args, privileged)


def test_keys_are_names_in_the_order_of_flatten() -> None:
    env = make()
    assert env.spec.groups == (Group("gripper", 2), Group("robot.mass", 1), Group("robot.pose", 2), Group("world", 2))
    assert env.reset().tolist() == [[1, 0, 10, 20, 30, 40, 50]] * 2
    check_env(env)


@pytest.mark.parametrize(
    ("privileged", "names", "row"),
    [
        (["robot.mass"], "gripper 2, robot.pose 2, world 2, robot.mass 1 (privileged)", [1, 0, 20, 30, 40, 50, 10]),
        (
            ["robot"],
            "gripper 2, world 2, robot.mass 1 (privileged), robot.pose 2 (privileged)",
            [1, 0, 40, 50, 10, 20, 30],
        ),
        (
            ["world", "gripper"],
            "robot.mass 1, robot.pose 2, gripper 2 (privileged), world 2 (privileged)",
            [10, 20, 30, 1, 0, 40, 50],
        ),
    ],
)
def test_what_is_privileged_comes_last(privileged: list[str], names: str, row: list[float]) -> None:
    env = make(privileged=privileged)
    assert ", ".join(map(str, env.spec.groups)) == names
    assert env.reset().tolist() == [row] * 2
    for _ in range(4):
        result = env.step(torch.zeros(2, 1))
    # the fourth step ends the episode: the last observation of the old one is ordered alike
    assert result.obs.tolist() == [row] * 2
    assert result.final_obs is not None
    assert result.final_obs.tolist() == [[number if number < 2 else number + 4 for number in row]] * 2


def test_a_pause_is_seen_by_actors() -> None:
    env = make("next_step", "own", ["world"])
    assert ", ".join(map(str, env.spec.groups)) == (
        "gripper 2, robot.mass 1, robot.pose 2, pause 1, world 2 (privileged)"
    )
    env.reset()
    rows = [env.step(torch.zeros(2, 1)).obs[0].tolist() for _ in range(5)]
    assert rows[2:] == [[0, 1, 13, 23, 33, 0, 43, 53], [1, 0, 14, 24, 34, 1, 44, 54], [1, 0, 10, 20, 30, 0, 40, 50]]
    check_env(env)


@pytest.mark.parametrize(
    ("space", "names", "words"),
    [
        (SPACE, ["mass"], "the observation has the groups gripper, robot.mass, robot.pose, world; got 'mass'"),
        (spaces.Box(0.0, 1.0, (3,)), ["world"], "the observation is no Dict: it has no groups; got 'world'"),
        (
            SPACE,
            ["gripper", "robot", "world"],
            "actors would see nothing: leave them one of gripper, robot, world",
        ),
    ],
)
def test_groups_that_are_not_there_are_named(space: Any, names: list[str], words: str) -> None:
    with pytest.raises(Mistake, match=f"^data.env.init_args.privileged: {re.escape(words)}$"):
        ObservationRows(space, names)


def test_a_vector_has_no_names() -> None:
    assert ObservationRows(spaces.Box(0.0, 1.0, (3,))).groups == ()


def test_a_missing_group_is_one_line() -> None:
    env = make(lacks="world")
    env.reset()
    with pytest.raises(Mistake, match=r"returned an observation \['world'\] that is not there: got dict"):
        env.step(torch.zeros(2, 1))
    env.close()


def test_a_training_with_a_privileged_key(cli: Cli) -> None:
    chosen = ("--data.env", "epo_lightning.envs.gymnasium.GymnasiumEnv", "--data.env.init_args.id", f"{HERE}:Nested")
    told = ("--data.env.init_args.privileged", "[robot.mass, world]")
    command = ("fit", "--config", "tiny.yaml", *chosen, *told, "--run_dir", "run", "--trainer.max_epochs", 1)
    refused = cli(*command)
    assert refused.code == 2
    assert "has robot.mass 1 (privileged), world 2 (privileged), which a critic" in refused.err
    assert cli(*command, "--model.network.separate_critic", "true").code == 0
    assert cli("validate", "--ckpt_path", "run").code == 0
    other = cli("validate", "--ckpt_path", "run", "--data.env.init_args.privileged", "[world]")
    assert other.code == 2
    assert (
        "its observation is gripper 2, robot.pose 2, robot.mass 1 (privileged), world 2 (privileged), not" in other.err
    )


@pytest.mark.parametrize(
    ("space", "groups", "row"),
    [
        (spaces.Box(0, 255, (1, 2, 3), np.uint8), (Group("image", (1, 2, 3)),), [0, 1, 2, 3, 4, 5]),
        (spaces.Box(0, 255, (2, 3), np.uint8), (Group("image", (2, 3, 1)),), [0, 1, 2, 3, 4, 5]),
        # two frames of 1 x 5, as a stack of frames has them: channels first
        (spaces.Box(0, 255, (2, 1, 5), np.uint8), (Group("image", (1, 5, 2)),), [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]),
        (spaces.Box(0, 255, (6,), np.uint8), (), [0, 1, 2, 3, 4, 5]),
        (spaces.Box(0, 5, (1, 2, 3), np.uint8), (), [0, 1, 2, 3, 4, 5]),  # no pixels: numbers of things
        (spaces.Box(0, 255, (1, 2, 3), np.float32), (), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_bytes_with_height_and_width_are_an_image(space: Any, groups: tuple[Group, ...], row: list[int]) -> None:
    rows, one = ObservationRows(space), np.arange(len(row)).reshape(space.shape).astype(space.dtype)
    out = np.zeros((2, len(row)), np.float32)
    rows.write(np.stack([one, one]), out)
    assert rows.groups == groups
    assert out.tolist() == [row] * 2
    assert rows.row(one).tolist() == row


def test_images_in_a_dict_have_their_key_and_may_be_privileged() -> None:
    space = spaces.Dict(eye=spaces.Box(0, 255, (4, 4, 3), np.uint8), pose=spaces.Box(-1, 1, (2,)))
    assert ", ".join(map(str, ObservationRows(space, ["eye"]).groups)) == "pose 2, eye 4 x 4 x 3 (privileged)"
