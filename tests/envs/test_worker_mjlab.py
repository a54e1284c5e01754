"""mjlab behind `WorkerEnv`: what is translated, against a stand-in; against the real one with EPO_MJLAB_PYTHON."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.envs.check import check_env
from epo_lightning.envs.worker import WorkerEnv
from epo_lightning.envs.worker.remote.mistakes import Mistake
from epo_lightning.envs.worker.remote.mjlab import Mjlab, mjlab

STAND_IN = Path(__file__).parent / "stand_in_mjlab"
MODULES = ("mjlab", "own_mjlab_tasks")
CPU = torch.device("cpu")
REAL = os.environ.get("EPO_MJLAB_PYTHON", "")
needs_real = pytest.mark.skipif(not REAL, reason="set EPO_MJLAB_PYTHON to an interpreter that has mjlab")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Mjlab]]:
    """`make(n, task, **options)`: the adapter in this process, on the stand-in."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    threads = torch.get_num_threads()

    def build(n: int = 3, task: str = "Stand-In-Point", **options: Any) -> Mjlab:
        return mjlab(n, 7, **{"device": "cpu", "task": task, **options})

    yield build
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.split(".")[0] in MODULES]:
        del sys.modules[name]


def step(env: Mjlab, *actions: float) -> tuple[list[Any], dict[str, Any]]:
    *arrays, extras = env.step(np.array(actions, np.float32)[:, None])
    return [array.tolist() for array in arrays], extras


class TestTranslation:
    def test_what_the_learner_must_know(self, make: Callable[..., Mjlab]) -> None:
        env = make()
        assert (env.name, env.num_envs, env.obs_dim, env.act_dim) == ("Stand-In-Point", 3, 2, 1)
        assert (env.max_episode_steps, env.step_seconds) == (4, 0.1)
        assert env.base.cfg.seed == 7

    def test_steps_ends_and_both_observations_by_hand(self, make: Callable[..., Mjlab]) -> None:
        env = make()
        assert env.reset().tolist() == [[0.0, 0.0]] * 3
        (obs, reward, terminated, truncated), extras = step(env, 1.0, -1.0, 0.5)
        assert obs == [[0.25, 1.0], [-0.25, 1.0], [0.125, 1.0]]
        assert reward == [0.25, -0.25, 0.125]
        assert not any(terminated + truncated)
        assert extras["log"] == {}
        (obs, reward, terminated, truncated), extras = step(env, 1.0, -1.0, 0.5)
        assert obs == [[0.5, 2.0], [0.0, 0.0], [0.25, 2.0]]  # the second fell and begins anew
        assert extras["final_obs"].tolist() == [[0.5, 2.0], [-0.5, 2.0], [0.25, 2.0]]
        assert reward == [0.5, -0.5, 0.25]
        assert (terminated, truncated) == ([False, True, False], [False, False, False])
        assert extras["log"] == {"Episode_Reward/x": -0.5, "Episode_Termination/fell": 1.0}
        step(env, 1.0, 0.0, 0.5)
        (obs, _, terminated, truncated), extras = step(env, 1.0, 0.0, 0.5)
        assert (terminated, truncated) == ([False] * 3, [True, False, True])
        assert obs == [[0.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
        assert extras["final_obs"].tolist() == [[1.0, 4.0], [0.0, 2.0], [0.5, 4.0]]

    def test_a_task_with_a_finite_horizon_ends_for_good(self, make: Callable[..., Mjlab]) -> None:
        env = make(settings={"is_finite_horizon": True, "episode_length_s": 0.1})
        (_, _, terminated, _), _ = step(env, 0.0, 0.0, 0.0)
        assert terminated == [True] * 3

    def test_a_goal_counts_once_per_episode(self, make: Callable[..., Mjlab]) -> None:
        env = make(1, success="goal", settings={"episode_length_s": 0.4})
        env.reset()
        counts = [step(env, 1.0)[1]["successes"].tolist()[0] for _ in range(8)]
        assert counts == [False, True, False, False, False, True, False, False]

    def test_an_end_can_be_the_success(self, make: Callable[..., Mjlab]) -> None:
        env = make(2, success="fell")
        step(env, -1.0, 0.0)
        assert step(env, -1.0, 0.0)[1]["successes"].tolist() == [True, False]
        assert "successes" not in step(make(2), 0.0, 0.0)[1]

    def test_unbounded_actions_are_scaled_and_bounded_ones_fill_their_range(self, make: Callable[..., Mjlab]) -> None:
        env = make(2, action_scale=3.0)
        step(env, 1.0, -0.5)
        assert env.base.asked.tolist() == [3.0, -1.5]
        env = make(3, "Stand-In-Point-Bounded")
        step(env, -1.0, 0.0, 1.0)
        assert env.base.asked.tolist() == [0.0, 2.0, 4.0]

    def test_actions_stay_the_learners(self, make: Callable[..., Mjlab]) -> None:
        env, actions = make(1), np.ones((1, 1), np.float32)
        env.step(actions)
        actions[:] = 9.0
        assert env.base.asked.tolist() == [1.0]

    def test_another_group_of_observations(self, make: Callable[..., Mjlab]) -> None:
        env = make(1, observations="critic")
        assert env.obs_dim == 3
        assert step(env, 1.0)[0][0] == [[0.25, 1.0, 1.0]]

    def test_a_group_for_the_critic_alone_comes_last(self, make: Callable[..., Mjlab]) -> None:
        env = make(2, privileged="critic")
        assert (env.obs_dim, env.groups) == (5, [("actor", 2, False), ("critic", 3, True)])
        assert step(env, 1.0, -1.0)[0][0] == [[0.25, 1.0, 0.25, 1.0, 1.0], [-0.25, 1.0, -0.25, 1.0, -1.0]]
        (obs, *_), extras = step(env, 1.0, -1.0)  # the second falls
        assert obs[1] == [0.0, 0.0, 0.0, 0.0, -1.0]
        assert extras["final_obs"].tolist()[1] == [-0.5, 2.0, -0.5, 2.0, -1.0]

    def test_several_groups_for_actors(self, make: Callable[..., Mjlab]) -> None:
        assert make(1, observations=["critic", "actor"]).groups == [("critic", 3, False), ("actor", 2, False)]

    def test_the_curriculums_clock_is_kept_and_can_be_held(self, make: Callable[..., Mjlab]) -> None:
        env = make(1)
        step(env, 0.0)
        assert env.curriculum() == {"common_step_counter": 1.0}
        env.set_curriculum({"common_step_counter": 500.0}, hold=False)
        step(env, 0.0)
        assert env.curriculum() == {"common_step_counter": 501.0}
        env.set_curriculum({"common_step_counter": 700.0}, hold=True)
        step(env, 0.0)
        assert env.curriculum() == {"common_step_counter": 700.0}

    def test_lists_of_yaml_become_the_tuples_that_a_task_has(self, make: Callable[..., Mjlab]) -> None:
        assert make(1, settings={"groups": ["critic"]}, observations="critic").base.cfg.groups == ("critic",)

    def test_own_tasks_are_imported(self, make: Callable[..., Mjlab]) -> None:
        assert make(1, "My-Point", imports=["own_mjlab_tasks"]).reset().tolist() == [[0.125, 0.0]]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"task": "Stand-In-Pont"}, r"options\.task: mjlab has the tasks Stand-In-Point, .*; got 'Stand-In-Pont'$"),
        (
            {"observations": "actr"},
            r"\.observations: .* has the groups of vectors and images actor, critic; got 'actr'$",
        ),
        (
            {"observations": "camera"},
            r"observations: .* has the groups of vectors and images actor, critic; got 'camera'$",
        ),
        ({"privileged": "camera"}, r"privileged: .* the groups of vectors and images actor, critic; got 'camera'$"),
        ({"privileged": ["actor"]}, r"privileged: actor is among the groups twice: what actors see is no secret$"),
        ({"task": "Stand-In-Camera"}, r"options\.observations: Stand-In-Camera has no group of vectors and images$"),
        ({"success": "twist"}, r"options\.success: Stand-In-Point has the terms time_out, fell, goal; got 'twist'$"),
        ({"settings": {"scene.envs": 3}}, r"options\.settings: scene has the fields num_envs; got 'envs'$"),
        ({"settings": {"start.x": 3}}, r"options\.settings: start has no fields; got 'x'$"),
        ({"device": "cuda:0"}, r"options\.device: .* sees no GPU for cuda:0; set it to cpu"),
        ({"device": "mps"}, r"options\.device must be cpu or cuda:0 for mjlab, got 'mps'$"),
        ({"imports": ["no_such_tasks"]}, r"has no package no_such_tasks, which .*options\.imports needs"),
    ],
)
def test_mistakes_are_one_line(
    options: dict[str, Any], line: str, make: Callable[..., Mjlab], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Mistake, match=line) as mistake:
        make(**options)
    assert "\n" not in str(mistake.value)


def test_it_keeps_the_contract_in_another_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    env = WorkerEnv(5, CPU, 7, sys.executable, "mjlab", {"task": "Stand-In-Point"})
    assert (env.spec.obs_dim, env.spec.act_dim, env.spec.restores) == (2, 1, False)
    check_env(env)
    env.close()


@pytest.mark.skipif(importlib.util.find_spec("mjlab") is not None, reason="mjlab is installed here")
def test_without_mjlab_it_says_so() -> None:
    with pytest.raises(ValueError, match=r"init_args\.python: .* has no package mjlab, which mjlab needs"):
        WorkerEnv(2, CPU, 7, sys.executable, "mjlab", {"task": "Mjlab-Cartpole-Balance"})


@pytest.mark.slow
@needs_real
class TestTheRealMjlab:
    def test_our_resets_are_those_of_mjlab(self) -> None:
        options = {"task": "Mjlab-Cartpole-Swingup", "settings": {"episode_length_s": 1.0}}
        ours = WorkerEnv(8, CPU, 7, REAL, "mjlab", options)
        factory = f"{STAND_IN.parent / 'stand_in_auto_reset.py'}:auto"
        theirs = WorkerEnv(8, CPU, 7, REAL, factory, {"task": "Mjlab-Cartpole-Swingup", "seconds": 1.0})
        assert torch.equal(ours.reset(), theirs.reset())
        ended = 0
        for row in torch.rand(45, 8, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1:
            a, b = ours.step(row), theirs.step(row)
            assert torch.equal(a.obs, b.obs)
            assert torch.equal(a.reward, b.reward)
            assert torch.equal(a.truncated, b.truncated)
            assert a.final_obs is not None
            assert not torch.equal(a.obs, a.final_obs) or not a.truncated.any()
            ended += int(a.truncated.sum())
        assert ended == 16
        ours.close()
        theirs.close()

    @pytest.mark.parametrize("task", ["Mjlab-Cartpole-Balance", "Mjlab-Velocity-Flat-Unitree-Go1"])
    def test_it_keeps_the_contract(self, task: str) -> None:
        env = WorkerEnv(4, CPU, 7, REAL, "mjlab", {"task": task, "settings": {"episode_length_s": 0.4}})
        check_env(env, 30)
        env.close()

    def test_its_managers_name_every_entry(self) -> None:
        env = WorkerEnv(4, CPU, 7, REAL, "mjlab", {"task": "Mjlab-Velocity-Flat-Unitree-Go1"})
        signals = env.signals()
        names = {signal.name: signal.size for signal in signals.observation}
        assert (names["joint_pos"], names["joint_vel"], names["actions"]) == (12, 12, 12)
        assert sum(names.values()) == env.spec.seen
        (legs,) = signals.action
        assert (legs.name, legs.size, legs.low, legs.high) == ("joint_pos", 12, (-1.0,) * 12, (1.0,) * 12)
        assert "FR_hip_joint, FR_thigh_joint, FR_calf_joint, FL_hip_joint" in legs.meaning
        assert "x * scale + offset" in legs.meaning
        env.close()

    def test_epo_trains_resumes_and_is_tested(self, cli: Callable[..., Any], tmp_path: Path) -> None:
        place = f"--data.env.init_args.python={REAL}"
        small = ("--data.num_envs=64", "--data.eval_envs=8", "--data.eval_episodes=8", "--trainer.max_epochs=2")
        short = "--data.env.init_args.options.settings={episode_length_s: 0.5}"
        run = tmp_path / "run"
        assert cli("fit", "--config", "mjlab_cartpole", place, short, *small, f"--run_dir={run}").code == 0
        last = str(run / "checkpoints" / "last.ckpt")
        outcome = cli("fit", "--ckpt_path", last, "--trainer.max_epochs=3")
        assert outcome.code == 0, outcome.err
        outcome = cli("validate", "--ckpt_path", last)
        assert outcome.code == 0, outcome.err
        assert "common_step_counter 48" in outcome.out


def test_late_beginnings(make: Callable[..., Mjlab]) -> None:
    env = make(4)
    assert env.reset_late(np.array([0.0, 0.25, 0.5, 0.75], np.float32)).shape == (4, 2)
    assert env.base.episode_length_buf.tolist() == [0, 1, 2, 3]  # of four steps
    (_, _, terminated, truncated), _ = step(env, 0.0, 0.0, 0.0, 0.0)
    assert truncated == [False, False, False, True]
    assert not any(terminated)
