"""The page on the export: its code runs, its examples act as the environments of this package do."""

import re
import runpy
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml

from epo_lightning.cli.entry import main
from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.bodies import BallInCup
from epo_lightning.envs.classic import WallMaze
from epo_lightning.envs.signals import check_signals
from epo_lightning.export.formats import FILES, OPSETS
from epo_lightning.export.web_runtime import MUJOCO, ONNX
from epo_runtime import Policy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "export.md").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the names of the page stand for after its code has run, with a run of a moment."""
    folder, names = tmp_path_factory.mktemp("reader"), {"__name__": "page"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = ["--data.num_envs=64", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
        assert main(["fit", "--config", "wall_maze", "--run_dir", "runs/first", *small]) == 0
        assert main(["export", "runs/first"]) == 0
        blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
        assert len(blocks) == 5
        for block in blocks:
            exec(compile(block, "docs/export.md", "exec"), names)
    return {"folder": folder, **names}


def test_its_code_does_what_it_says(page: dict[str, Any]) -> None:
    assert page["action"].shape == (2,)
    assert page["several"].act(np.zeros((3, 2))).shape == (3, 2)
    assert page["between"].act(np.zeros((3, 2))).shape == (3, 2)
    assert len(check_signals(page["signals"](None), 14, 7).observation) == 2


def test_without_its_initializer_the_gene_must_be_given(page: dict[str, Any]) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(page["folder"] / "policy_with_gene.onnx")
    assert [each.name for each in session.get_inputs()] == ["observation", "gene"]
    gene, obs = page["policy"].genes[5:6], np.array([[0.3, -0.2]], np.float32)
    (action,) = session.run(None, {"observation": obs, "gene": gene})
    expected = Policy.load(page["folder"] / "runs/first/policy", agent=5).act(obs)
    np.testing.assert_allclose(action, expected, atol=1e-6)


def test_its_excerpt_of_policy_yaml_is_real(page: dict[str, Any]) -> None:
    real = yaml.safe_load((page["folder"] / "runs/first/policy/policy.yaml").read_text())
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    excerpt = yaml.safe_load(shown.replace("{where: in the file, ...}", "{}").replace("...", "null"))
    assert excerpt["observation"]["entries"] == real["observation"]["entries"]
    assert excerpt["action"]["entries"] == real["action"]["entries"]
    for part, told in excerpt.items():
        assert not told or set(told) <= set(real[part]), part


def test_its_numbers_are_those_of_the_code() -> None:
    assert f"{OPSETS[0]} (the\ndefault) to {OPSETS[-1]}" in PAGE
    assert all(f"`{name}`" in PAGE for name in FILES.values())
    assert re.findall(r"onnxruntime-web@[\d.]*\d", PAGE) == [ONNX.spec] * 2
    assert re.findall(r"@mujoco/mujoco@[\d.]*\d", PAGE) == [MUJOCO.spec] * 2


class Fixed:
    """Acts by the clock alone, whatever it sees."""

    manifest: ClassVar = {"control": {"step_seconds": 0.02}}

    def __init__(self, actions: np.ndarray) -> None:
        self.actions, self.step = actions, 0

    def reset(self) -> None:
        self.step = 0

    def act(self, obs: np.ndarray) -> np.ndarray:
        self.step += 1
        action = self.actions[self.step - 1]
        return np.tile(action, (len(obs), 1)) if obs.ndim == 2 else action


def followed(env: VectorEnv, actions: np.ndarray) -> np.ndarray:
    """(T, O) what an environment of this package shows of its first copy when the same is done there."""
    obs, seen = env.reset(), []
    for action in actions:
        seen.append(obs[0].numpy())
        obs = env.step(torch.from_numpy(action).expand(env.spec.num_envs, -1)).obs
    return np.array(seen)


def test_the_maze_of_the_example_is_the_one_of_the_package() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "wall_maze_without_torch.py"))
    env, random = WallMaze(512, torch.device("cpu"), 0), np.random.default_rng(0)
    assert example["WALLS"].shape == (3, 4)
    np.testing.assert_allclose(example["WALLS"], env.walls.numpy(), atol=1e-6)
    np.testing.assert_allclose(np.stack([example["LOW"], example["HIGH"]]), torch.stack([env.low, env.high]), atol=1e-6)
    state = env.reset()
    for _ in range(30):
        towards = 0.4 * (env.goal - state).sign().numpy()  # into the cup, and along its walls
        action = (random.uniform(-1, 1, (512, 2)) + towards).clip(-1, 1).astype(np.float32)
        moved = example["moved"](state.numpy(), action)
        result = env.step(torch.from_numpy(action))
        assert result.final_obs is not None
        np.testing.assert_allclose(moved, result.final_obs.numpy(), atol=1e-5)
        state = result.obs


def test_the_scene_of_the_example_is_the_one_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "ball_in_cup_without_torch.py"))
    start = torch.tensor([[0.0, 0.0, 0.1, 0.35]])
    monkeypatch.setattr(BallInCup, "_starts", lambda self, count: (start, torch.zeros(1, 4)))
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 2)).astype(np.float32)
    seen = example["play"](Fixed(actions), 60 / 50)
    expected = followed(BallInCup(1, torch.device("cpu"), 0, threads=1), actions)
    assert np.abs(expected[-1] - expected[0]).max() > 0.1  # the ball has fallen into its string
    np.testing.assert_allclose(seen, expected, atol=1e-4)
