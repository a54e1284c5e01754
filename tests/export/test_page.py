"""A page's files are what they should be: the step of the task, its starts and shapes, and what runs them."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from epo_lightning.envs.classic import CartpoleSwingup, PointMaze, TwoGoals, WallMaze
from epo_lightning.envs.classic.arena import Arena
from epo_lightning.export.arena_page import STARTS, place, rehearse, starts, write_task
from epo_lightning.export.pages import shown
from epo_lightning.export.web_runtime import MUJOCO, ONNX, Package, fetched, require_node
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.limits import Mistake

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", [WallMaze, TwoGoals, PointMaze])
def test_the_step_in_the_file_is_that_of_the_task(
    kind: Callable[[int, torch.device, int], Arena], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    count = 64
    env = kind(count, CPU, 0)
    write_task(env, 18, tmp_path / "task.onnx")
    file = onnxruntime.InferenceSession(tmp_path / "task.onnx")
    obs, ended = env.reset(), 0
    for action in 1.5 * torch.randn(150, count, 2, generator=torch.Generator().manual_seed(0)):
        reached, reward, terminated, success = file.run(None, {"state": obs.numpy(), "action": action.numpy()})
        result = env.step(action)
        assert result.final_obs is not None
        np.testing.assert_allclose(reached, result.final_obs, rtol=0, atol=1e-6)
        np.testing.assert_allclose(reward, result.reward, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(terminated, result.terminated.float())
        np.testing.assert_array_equal(success, result.successes)
        obs, ended = result.obs, ended + int(result.terminated.sum())
    assert ended > 0 or kind is PointMaze  # chance does not pass its two walls


def test_what_is_recorded_is_what_happened() -> None:
    env, agents = WallMaze(2, CPU, 0, max_steps=3), [1, 0]
    torch.manual_seed(0)
    policy = LatentActorCritic(2, 2, 2, NetworkSettings(hidden=(8,), gene_dim=3)).eval()
    told = rehearse(env, policy, agents, 7)
    assert told["agents"] == agents
    assert [row[0] for row in told["done"]] == [0, 0, 1, 0, 0, 1, 0]
    for t in range(7):
        for row, agent in enumerate(agents):
            seen = torch.tensor([told["state"][t][row]])
            action, _ = policy.act(seen, torch.tensor([agent]), policy.initial_state(1))
            np.testing.assert_allclose(told["action"][t][row], action[0].detach(), atol=1e-6)
            x, y = told["next"][t][row]
            assert told["reward"][t][row] == pytest.approx(-0.1 * math.hypot(x - 1.0, y), abs=1e-6)
            if t < 6 and not told["done"][t][row]:
                assert told["next"][t][row] == told["state"][t + 1][row]


def test_the_place_and_the_starts_are_the_tasks_own() -> None:
    env = TwoGoals(3, CPU, 0, wall=0.25)
    told = place(env)
    assert (told["low"], told["high"]) == ([-1.0, -1.0], [1.0, 1.0])
    ground, poor, rich, middle, wall = told["shapes"]
    assert ground["box"] == [-1.0, -1.0, 1.0, 1.0]
    assert (poor["disc"], rich["disc"][:2], middle["disc"][:2]) == ([0.0, -0.5, 0.15], [0.0, 0.6], [0.0, 0.6])
    np.testing.assert_allclose(wall["box"], [-0.25, 0.2, 0.25, 0.3], atol=1e-6)
    drawn = np.array(starts(env))
    assert drawn.shape == (STARTS, 2)
    assert np.abs(drawn).max() <= 0.05
    assert len(np.unique(drawn)) > STARTS


class Shifted(WallMaze):
    """Sees another place than where it is."""

    def _observe(self, state: torch.Tensor) -> torch.Tensor:
        return state + 1.0


def test_a_task_that_cannot_be_carried_over_is_refused() -> None:
    with pytest.raises(Mistake, match="--web: there is no page for CartpoleSwingup, only for points between walls"):
        shown(lambda count, later: CartpoleSwingup(count, CPU, later), 2)
    with pytest.raises(Mistake, match="no page for WallMaze: it observes something else than its position"):
        shown(lambda count, later: Shifted(count, CPU, later), 2)


@pytest.mark.parametrize("package", [ONNX, MUJOCO])
def test_what_a_page_runs_on_is_the_published_one_or_none(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        Mistake, match=f"no npm to fetch it: .*npm pack {package.spec}`, and put {package.archive} into {tmp_path}"
    ):
        fetched(package)
    (tmp_path / "epo_lightning").mkdir(exist_ok=True)
    (tmp_path / "epo_lightning" / package.archive).write_bytes(b"something else")
    with pytest.raises(Mistake, match=rf"is not {package.spec} as it was published .*delete it"):
        fetched(package)


def test_without_a_network_it_says_what_npm_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(npm))
    with pytest.raises(Mistake, match=r"cannot be fetched \(npm error code ENOTFOUND\): where there is a network"):
        fetched(MUJOCO)
    assert not list((tmp_path / "cache" / "epo_lightning").iterdir())


@pytest.mark.parametrize(("said", "fault"), [(None, "found none"), ("v16.3.0", "found v16.3.0"), ("?", "found ?")])
def test_without_a_new_enough_node_there_is_no_page(
    said: str | None, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = tmp_path / "node"
    node.write_text(f"#!/bin/sh\necho '{said}'\n")
    node.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: None if said is None else str(node))
    with pytest.raises(Mistake) as refusal:
        require_node()
    assert f"--web needs Node.js 18 or newer to check the page, {fault}" in str(refusal.value)
