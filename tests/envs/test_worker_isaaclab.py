"""Isaac Lab behind `WorkerEnv`: what is translated, against a stand-in; the real one with EPO_ISAACLAB_PYTHON."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.envs.check import check_env
from epo_lightning.envs.worker import WorkerEnv
from epo_lightning.envs.worker.remote.isaaclab import IsaacLab, isaaclab
from epo_lightning.envs.worker.remote.mistakes import Mistake
from epo_lightning.library.policy import load_policy
from tests.support.command_line import Cli

gymnasium = pytest.importorskip("gymnasium")

STAND_IN = Path(__file__).parent / "stand_in_isaaclab"
MODULES = ("isaaclab", "isaaclab_tasks", "own_isaaclab_tasks")
CPU = torch.device("cpu")
REAL = os.environ.get("EPO_ISAACLAB_PYTHON", "")
Make = Callable[..., IsaacLab]
SEEN = """
model:
  num_agents: 2
  network: {{gene_dim: 2, hidden: [16], image_channels: [4], image_features: 8, separate_critic: true}}
  rollout: {{horizon: 8}}
data:
  env:
    class_path: epo_lightning.envs.worker.WorkerEnv
    init_args:
      python: {python}
      factory: isaaclab
      options: {{task: Stand-In-Point, observations: [policy, camera], privileged: apart}}
  num_envs: 8
  eval_episodes: 8
trainer: {{accelerator: cpu, devices: 1, max_epochs: 2}}
"""


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """`make(n, task, version, **options)`: the adapter in this process, on the stand-in, after a reset."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setattr(sys, "argv", ["remote", "3", "4"])
    registry, threads = dict(gymnasium.registry), torch.get_num_threads()

    def build(n: int = 3, task: str = "Stand-In-Point", version: int = 3, **options: Any) -> IsaacLab:
        monkeypatch.setenv("STAND_IN_ISAACLAB", str(version))
        env = isaaclab(n, 7, **{"device": "cpu", "task": task, **options})
        env.reset()
        return env

    yield build
    torch.set_num_threads(threads)
    gymnasium.registry.clear()
    gymnasium.registry.update(registry)
    for name in [name for name in sys.modules if name.split(".")[0] in MODULES]:
        del sys.modules[name]


def step(env: IsaacLab, *actions: float) -> tuple[list[Any], dict[str, Any]]:
    *arrays, extras = env.step(np.array(actions, np.float32)[:, None])
    return [array.tolist() for array in arrays], extras


@pytest.mark.parametrize("version", [2, 3])
class TestBothVersions:
    def test_what_the_learner_must_know(self, version: int, make: Make) -> None:
        env = make(version=version)
        assert (env.name, env.num_envs, env.obs_dim, env.act_dim) == ("Stand-In-Point", 3, 2, 1)
        assert (env.max_episode_steps, env.step_seconds) == (4, 0.1)
        assert (env.base.cfg.seed, env.base.cfg.sim.device) == (7, "cpu")
        assert env.versions == {"isaaclab": f"{version}.0.0"}

    def test_steps_and_ends_by_hand(self, version: int, make: Make) -> None:
        env = make(version=version)
        assert env.reset().tolist() == [[0.0, 0.0]] * 3
        (obs, reward, terminated, truncated), extras = step(env, 1.0, -1.0, 0.5)
        assert obs == [[0.25, 1.0], [-0.25, 1.0], [0.125, 1.0]]
        assert reward == [0.25, -0.25, 0.125]
        assert not any(terminated + truncated)
        assert extras["log"] == {}
        (obs, reward, terminated, truncated), extras = step(env, 1.0, -1.0, 0.5)
        assert obs == [[0.5, 2.0], [0.0, 0.0], [0.25, 2.0]]  # the second fell and begins anew
        assert reward == [0.5, -0.5, 0.25]
        assert (terminated, truncated) == ([False, True, False], [False, False, False])
        assert extras["log"] == {"Metrics/x": -0.5}
        step(env, 0.5, 0.0, 0.5)
        (obs, _, terminated, truncated), extras = step(env, 0.5, 0.0, 0.5)
        assert (terminated, truncated) == ([False] * 3, [True, False, True])
        assert obs == [[0.0, 0.0], [0.0, 2.0], [0.0, 0.0]]
        if version == 3:
            assert extras["final_obs"].tolist() == [[0.75, 4.0], [0.0, 2.0], [0.5, 4.0]]
        else:
            assert "final_obs" not in extras  # version 2 does not tell

    def test_a_task_without_managers(self, version: int, make: Make) -> None:
        env = make(1, "Stand-In-Point-Direct", version)
        assert env.max_episode_steps == 4
        ends = [step(env, 1.0)[0][2][0] for _ in range(5)]
        assert ends == [False, False, False, True, False]  # 1.0 is beyond 0.9

    def test_a_termination_counts_successes(self, version: int, make: Make) -> None:
        env = make(2, version=version, success="success")
        counts = [step(env, 1.0, -1.0)[1]["successes"].tolist() for _ in range(5)]
        assert counts == [[False, False]] * 3 + [[True, False], [False, False]]

    def test_signals_stay_the_workers_and_arguments_its_own(self, version: int, make: Make) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the worker
        try:
            env = make(version=version, launcher={"enable_cameras": True})
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)
        running = sys.modules["isaaclab.app"].RUNNING
        assert running == [{"headless": True, "device": "cpu", "enable_cameras": True}]
        assert env.runtime is not None

    def test_it_keeps_the_contract_in_another_interpreter(self, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
        monkeypatch.setenv("STAND_IN_ISAACLAB", str(version))
        env = WorkerEnv(5, CPU, 7, sys.executable, "isaaclab", {"task": "Stand-In-Point"})
        assert (env.spec.obs_dim, env.spec.act_dim, env.spec.restores) == (2, 1, False)
        check_env(env)
        env.close()


class TestOptions:
    def test_a_group_for_the_critic_alone_comes_last(self, make: Make) -> None:
        env = make(1, settings={"critic": True, "episode_length_s": 0.2}, privileged="critic")
        assert (env.obs_dim, env.groups) == (3, [("policy", 2, False), ("critic", 1, True)])
        assert step(env, 1.0)[0][0] == [[0.25, 1.0, 2.5]]
        (obs, *_), extras = step(env, 1.0)
        assert obs == [[0.0, 0.0, 0.0]]
        assert extras["final_obs"].tolist() == [[0.5, 2.0, 5.0]]

    def test_images_reach_the_networks_as_the_task_gives_them(self, make: Make) -> None:
        env = make(2, observations=["policy", "camera"], privileged="apart")
        assert env.obs_dim == 2 + 60 + 12 + 1
        assert env.groups == [
            *[("policy", 2, False), ("camera", [4, 5, 3], False)],
            *[("apart.depth", [2, 6, 1], True), ("apart.x", 1, True)],
        ]
        (obs, *_), _ = step(env, 1.0, -1.0)
        for row, x in zip(obs, (0.25, -0.25), strict=True):
            assert row[:2] == [x, 1.0]
            assert row[2:62] == [*range(60)]  # bytes
            assert row[62:74] == pytest.approx([255 * (entry / 10 + x) for entry in range(12)], abs=1e-4)
            assert row[74] == x
        seen = env.signals["observation"]
        assert [(entry["name"], entry["size"]) for entry in seen] == [("policy", 2), ("camera", 60)]
        assert seen[1]["meaning"] == "image 4 x 5 x 3, row by row; bytes, or what the task gives times 255"
        assert make(1, observations="camera").groups == [("camera", [4, 5, 3], False)]

    def test_a_task_that_is_seen_trains_and_is_evaluated(self, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
        monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
        monkeypatch.setenv("STAND_IN_ISAACLAB", "3")
        Path("case.yaml").write_text(SEEN.format(python=sys.executable))
        outcome = cli("fit", "--config", "case.yaml", "--run_dir", "run")
        assert outcome.code == 0, outcome.err
        assert cli("validate", "--ckpt_path", "run").code == 0
        weights = load_policy("run").network.state_dict()
        assert weights["actor_encoder.towers.0.0.weight"].shape == (4, 3, 3, 3)
        assert weights["critic_encoder.towers.1.0.weight"].shape == (4, 1, 3, 3)

    def test_a_finite_horizon_ends_for_good(self, make: Make) -> None:
        env = make(settings={"is_finite_horizon": True, "episode_length_s": 0.1})
        (_, _, terminated, _), _ = step(env, 0.0, 0.0, 0.0)
        assert terminated == [True] * 3

    def test_unbounded_actions_are_scaled_and_bounded_ones_fill_their_range(self, make: Make) -> None:
        env = make(2, action_scale=3.0)
        step(env, 1.0, -0.5)
        assert env.base.asked.tolist() == [3.0, -1.5]
        env = make(3, "My-Bounded", imports=["own_isaaclab_tasks"])
        step(env, -1.0, 0.0, 1.0)
        assert env.base.asked.tolist() == [0.0, 2.0, 4.0]

    def test_actions_stay_the_learners(self, make: Make) -> None:
        env, actions = make(1), np.ones((1, 1), np.float32)
        env.step(actions)
        actions[:] = 9.0
        assert env.base.asked.tolist() == [1.0]

    def test_presets_of_version_3(self, make: Make) -> None:
        assert make(overrides=["physics=isaacsim_physx"]).base.cfg.sim.physics == "isaacsim_physx"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"task": "Stand-In-Pont"}, r"options\.task: isaaclab has the tasks Stand-In-Point, .*; got 'Stand-In-Pont'$"),
        ({"task": "CartPole-v1"}, r"options\.task: isaaclab has the tasks .*; got 'CartPole-v1'$"),
        ({"task": "Stand-In-Agents"}, r"options\.task: Stand-In-Agents is a task of several agents"),
        ({"task": "My-Buttons", "imports": ["own_isaaclab_tasks"]}, r"My-Buttons takes Discrete\(3\), but only a flat"),
        (
            {"observations": "grid"},
            r"Stand-In-Point has the groups of vectors and images apart, camera, policy; got 'grid'$",
        ),
        ({"success": "goal"}, r"options\.success: Stand-In-Point has the terms time_out, fell, success; got 'goal'$"),
        ({"task": "Stand-In-Point-Direct", "success": "fell"}, r"Stand-In-Point-Direct has no terms; got 'fell'$"),
        ({"settings": {"sim.dtt": 3}}, r"options\.settings: sim has the fields dt, .*; got 'dtt'$"),
        (
            {"overrides": ["physics=x"]},
            r"overrides: Unknown preset\(s\): x Available presets: isaacsim_physx, ",
        ),
        ({"version": 2, "overrides": ["physics=x"]}, r"options\.overrides need Isaac Lab 3"),
        (
            {"overrides": ["physics=isaacsim_physx"]},
            r"-Point needs Isaac Sim, which .*physics=newton_mjwarp\]$",
        ),
        ({"version": 2}, r"has an Isaac Lab that needs the package isaacsim; install it there"),
        ({"imports": ["no_such_tasks"]}, r"has no package no_such_tasks, which .*options\.imports needs"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], line: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    if "isaacsim" in line or "needs Isaac Sim" in line:
        monkeypatch.setenv("STAND_IN_ISAACSIM", "")
    with pytest.raises(Mistake, match=line) as mistake:
        make(**options)
    assert "\n" not in str(mistake.value)


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="set EPO_ISAACLAB_PYTHON to an interpreter that has Isaac Lab 3")
@pytest.mark.parametrize("task", ["Isaac-Cartpole-Direct", "Isaac-Cartpole"])
def test_the_real_isaac_lab_without_isaac_sim(task: str) -> None:
    # its own robot comes over the network: ours stands in for it, with the same joints
    robot = "cartpole" if task.endswith("Direct") else "robot"
    settings = {f"scene.{robot}.spawn.usd_path": str(STAND_IN / "cartpole.usda"), "scene.ground": None}
    env = WorkerEnv(4, CPU, 7, REAL, "isaaclab", {"task": task, "settings": {**settings, "episode_length_s": 0.5}})
    assert (env.spec.obs_dim, env.spec.act_dim) == (4, 1)
    check_env(env, 40)
    env.close()


def test_late_beginnings(make: Make) -> None:
    env = make(4)
    assert env.reset_late(np.array([0.0, 0.25, 0.5, 0.75], np.float32)).shape == (4, 2)
    assert env.base.episode_length_buf.tolist() == [0, 1, 2, 3]  # of four steps
    (_, _, terminated, truncated), _ = step(env, 0.0, 0.0, 0.0, 0.0)
    assert truncated == [False, False, False, True]
    assert not any(terminated)
