"""Isaac Gym behind `WorkerEnv`: what is translated, against a stand-in under the Python 3.8 that it needs."""

import ast
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.envs.check import check_env
from epo_lightning.envs.worker import WorkerEnv
from epo_lightning.envs.worker.process import WorkerError
from tests.support.command_line import Cli, Rows
from tests.support.workers import REMOTE, STAND_IN, closed_workers, write_case

make = pytest.fixture(closed_workers)


def runs_as_38(python: str) -> bool:
    code = "import sys; sys.exit(sys.version_info[:2] != (3, 8))"
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run([python, "-c", code], capture_output=True, timeout=20).returncode == 0
    return False


@pytest.fixture(scope="session")
def python38(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python 3.8 with numpy and Isaac Gym's configuration library."""
    named = os.environ.get("EPO_PYTHON38")
    candidates = [named] if named else []
    candidates += ["python3.8", *map(str, sorted(Path.home().glob(".pyenv/versions/3.8*/bin/python")))]
    found = next((python for python in candidates if runs_as_38(python)), None)
    if found is None:
        pytest.skip("no Python 3.8 here: set EPO_PYTHON38 to one")
    folder = tmp_path_factory.mktemp("python38")
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "--retries", "1", "numpy", "hydra-core"]
    for command in ([found, "-m", "venv", str(folder)], install):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            pytest.skip(f"{found} could not make an environment with numpy and hydra-core: {said}")
    return python


@pytest.fixture
def gym(make: Callable[..., WorkerEnv], python38: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkerEnv]:
    """`gym(task, n, ...)`: the stand-in for Isaac Gym under Python 3.8."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    return lambda task, n=4, **options: make("isaacgym", n, python=python38, task=task, **options)


@pytest.mark.parametrize("file", sorted(Path(REMOTE).glob("*.py")), ids=lambda file: file.stem)
def test_a_file_of_the_remote_side_needs_python_3_8_and_numpy(file: Path) -> None:
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    known = sys.stdlib_module_names - {"graphlib", "tomllib", "zoneinfo"} | {"numpy"}
    for node in tree.body:  # simulators are imported inside functions
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= known
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert str(node.module).partition(".")[0] in known
    for inner in ast.walk(tree):
        assert not isinstance(inner, ast.ImportFrom) or inner.level < 2
        names = [alias.name for alias in inner.names] if isinstance(inner, ast.Import) else []
        names += [str(inner.module)] if isinstance(inner, ast.ImportFrom) else []
        assert not any(name.partition(".")[0] == "epo_lightning" for name in names)


def test_under_python_3_8_all_is_the_same(make: Callable[..., WorkerEnv], python38: str) -> None:
    old, new = make("cart", 6, python=python38), make("cart", 6)
    assert torch.equal(old.reset(), new.reset())
    for _ in range(25):
        a, b = old.step(torch.ones(6, 1)), new.step(torch.ones(6, 1))
        assert torch.equal(a.obs, b.obs)
        assert torch.equal(a.truncated, b.truncated)
    check_env(old)


class TestIsaacGym:
    """The stand-in's observation: clock, goals reached in this episode, first action, a number of this episode."""

    def test_sizes_and_names(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKukaTwoArms")
        assert env.spec.name == "IsaacGym/AllegroKukaTwoArms"
        assert (env.spec.num_envs, env.spec.obs_dim, env.spec.act_dim) == (4, 4, 2)
        assert env.spec.max_episode_steps == 3 * 6
        assert env.spec.step_seconds == pytest.approx(0.1)
        assert not env.spec.restores
        assert env.versions == {"isaacgym": "1.0.stand-in", "isaacgymenvs": "1.5.stand-in", "torch": "0.stand-in"}

    def test_states_are_for_the_critic_alone(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("Stated", 2, privileged=True)
        assert ", ".join(map(str, env.spec.groups)) == "obs 4, states 2 (privileged)"
        assert env.reset()[:, [0, 1, 2, 4, 5]].tolist() == [[1, 0, 0, 1, 7]] * 2
        assert env.step(torch.zeros(2, 2)).obs[:, [0, 1, 2, 4, 5]].tolist() == [[2, 0, 0, 2, 7]] * 2
        assert gym("Stated", 2).spec.groups == ()
        with pytest.raises(ValueError, match=r"options\.privileged: Cartpole has no states, set it to false$"):
            gym("Cartpole", 2, privileged=True)

    def test_time_goals_and_falls_of_a_kuka_task(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKuka", 3)
        assert env.reset()[:, :3].tolist() == [[1, 0, 0]] * 3  # after one step with the action 0
        g, o, f = [1.0, 0.0], [0.0, 0.0], [0.0, -1.0]  # reach a goal, do nothing, fall
        # environment 0 reaches a goal in steps 1 and 7, 1 three in a row from step 2, 2 falls in step 1
        script = [[g, o, f], [o, g, o], [o, g, o], [o, g, o], [o, g, o], [o, o, o], [g, o, o], [o, o, o]]
        successes, terminated, truncated, clocks = [], [], [], []
        for row in script:
            result = env.step(torch.tensor(row))
            assert result.final_obs is not None
            assert torch.equal(result.final_obs[result.truncated], result.obs[result.truncated])
            successes.append(result.successes.tolist())
            terminated.append(result.terminated.tolist())
            truncated.append(result.truncated.tolist())
            clocks.append(result.obs[:, 0].tolist())
        assert [s[0] for s in successes] == [1, 0, 0, 0, 0, 0, 1, 0]
        # the goal set the clock back: it is over at 5, in step 6; step 7 is the first of the next episode
        assert [c[0] for c in clocks] == [2, 1, 2, 3, 4, 5, 1, 1]
        assert [t[0] for t in truncated] == [False] * 5 + [True] + [False] * 2
        # three goals end the episode; the fourth is the first of the next one
        assert [s[1] for s in successes] == [0, 1, 1, 1, 1, 0, 0, 0]
        assert [t[1] for t in truncated] == [False] * 3 + [True] + [False] * 4
        assert [t[2] for t in terminated] == [True] + [False] * 7
        assert [t[2] for t in truncated] == [False] * 5 + [True, False, False]
        assert not any(t[0] or t[1] for t in terminated)

    def test_what_is_logged(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKuka", 2)
        env.reset()
        env.step(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))  # a goal, and the episode ends
        log = env.step(torch.zeros(2, 2)).log
        # the tolerance began with 0.08 and is halved in every step; the objective is that of the last episodes
        assert {name: pytest.approx(float(value)) for name, value in log.items()} == {
            "successes": 0.25,
            "tolerance": 0.01,
            "true_objective": 0.005,
        }

    def test_the_tolerance_is_taken_over_and_held(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AllegroKuka", 2)
        env.reset()
        state = env.state_dict()
        assert state["curriculum"] == {"tolerance": pytest.approx(0.04)}
        evaluation = gym("AllegroKuka", 2)
        evaluation.set_curriculum({"tolerance": 0.02})
        evaluation.reset()
        assert evaluation.curriculum() == {"tolerance": 0.02}
        for each in (env, evaluation):  # whose state was not held: it goes on
            each.load_state_dict(state | {"curriculum": {"tolerance": 0.02}})
            each.reset()
            assert each.curriculum() == {"tolerance": 0.01}

    def test_a_plain_task(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("Cartpole", 1)
        assert env.spec.max_episode_steps == 4
        env.reset()
        results = [env.step(torch.zeros(1, 2)) for _ in range(2)]
        assert bool(results[-1].truncated)  # after reset() and two steps the clock is at 3
        assert env.step(torch.zeros(1, 2)).obs[0, 0] == 1
        assert env.step(torch.zeros(1, 2)).obs[0, 0] == 2
        assert env.reset()[0, 0] == 1  # in mid-episode
        assert set(env.step(torch.zeros(1, 2)).log) == set()

    @pytest.mark.parametrize("task", ["Cartpole", "AnymalTerrain"])
    def test_late_beginnings(self, gym: Callable[..., WorkerEnv], task: str) -> None:
        env = gym(task, 2)
        env.reset_late(torch.tensor([0.0, 0.7]))  # after the first step the clocks are at 1 and int(0.7 * 3) = 2
        assert env.step(torch.zeros(2, 2)).truncated.tolist() == [False, True]
        assert env.step(torch.zeros(2, 2)).truncated.tolist() == [True, False]

    def test_a_release_that_does_not_tell_time_outs(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("Old", 2)
        env.reset()
        result = env.step(torch.tensor([[0.0, 0.0], [0.0, -1.0]]))
        assert result.terminated.tolist() == [False, True]
        result = env.step(torch.zeros(2, 2))
        assert result.truncated.tolist() == [True, False]

    def test_the_task_that_resets_at_once(self, gym: Callable[..., WorkerEnv]) -> None:
        env = gym("AnymalTerrain", 2)
        assert env.reset()[:, 0].tolist() == [1, 1]
        result = env.step(torch.tensor([[0.0, 0.0], [0.0, -1.0]]))
        assert (result.terminated.tolist(), result.truncated.tolist()) == ([False, True], [False, False])
        assert result.obs[:, 0].tolist() == [2, 0]
        result = env.step(torch.zeros(2, 2))
        assert (result.terminated.tolist(), result.truncated.tolist()) == ([False, False], [True, False])
        assert result.final_obs is None  # nobody has kept it
        assert result.obs[:, 0].tolist() == [0, 1]

    def test_seeds(self, gym: Callable[..., WorkerEnv]) -> None:
        first, again, other = (gym("Cartpole", seed=seed).reset()[:, 3].clone() for seed in (5, 5, 6))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_sub_tasks_and_overrides(self, gym: Callable[..., WorkerEnv]) -> None:
        assert gym("AllegroKuka", sub_task="regrasping").spec.max_episode_steps == 3 * 4
        changed = gym("AllegroKukaTwoArmsLSTM", overrides=["task/env=regrasping", "task.env.episodeLength=400"])
        assert changed.spec.max_episode_steps == 3 * 400

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"task": "AllegroKuca"}, "options.task: this IsaacGymEnvs has AllegroKuka, .*; got 'AllegroKuca'"),
            (
                {"task": "AllegroKuka", "sub_task": "juggling"},
                "options.sub_task: this IsaacGymEnvs has .*regrasping.*; got 'juggling'",
            ),
            ({"task": "Cartpole", "sub_task": "regrasping"}, "options: Could not override 'task/env'"),
            ({"task": "Cartpole", "overrides": ["task.env.gravity=1"]}, "options: Could not override 'task.env.grav"),
            ({"task": "HumanoidAMP"}, "options.task: HumanoidAMP needs a learner that resets it"),
            ({"task": "FactoryBase"}, "options.task: FactoryBase is what other tasks"),
            (
                {"task": "Cartpole", "tusk": 1},
                "isaacgym knows the options task, sub_task, overrides, privileged; got 'tusk'",
            ),
        ],
    )
    def test_mistakes(self, gym: Callable[..., WorkerEnv], options: dict[str, Any], message: str) -> None:
        with pytest.raises(WorkerError, match=message) as error:
            gym(**options)
        assert "\n" not in str(error.value)

    def test_trains_through_the_command_line(
        self, cli: Cli, rows: Rows, python38: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
        write_case("", {"task": "AllegroKukaTwoArms", "sub_task": "regrasping"}, "isaacgym", python38)
        outcome = cli("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--run_dir", "run")
        assert outcome.code == 0
        assert outcome.err == ""
        assert len(rows(Path("run"))) == 2
        assert "env/true_objective" in rows(Path("run"))[-1]
