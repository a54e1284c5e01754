"""`--init_args` of the environments' checker: read like `data.env.init_args` of a configuration."""

from pathlib import Path

import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.obstacles import Block
from epo_lightning.envs.check import env_factory, main
from epo_lightning.envs.classic import WallMaze

CPU = torch.device("cpu")
MAZE = "epo_lightning.envs.classic.WallMaze"


def test_plain_values_become_what_the_constructor_names() -> None:
    block = {"size": [0.1, 0.1, 0.05], "pos": [0, 0.2, 0.6]}
    kuka = "epo_lightning.envs.allegro_kuka.AllegroKuka"
    env = env_factory(kuka, {"task": "two_arm", "obstacles": [block], "threads": 1})(1, CPU, 0)
    assert isinstance(env, AllegroKuka)
    assert [*env.rules.card.obstacles] == [Block(size=(0.1, 0.1, 0.05), pos=(0.0, 0.2, 0.6))]
    env.close()


def test_what_is_not_said_is_the_constructor_s_default() -> None:
    env = env_factory(MAZE, {"speed": 1})(3, CPU, 0)
    assert isinstance(env, WallMaze)
    assert (env.spec.num_envs, env.speed, env.goal_radius) == (3, 1.0, 0.2)


def test_a_class_without_annotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import {MAZE.rpartition('.')[0]} as c\nclass Mine(c.Probe):\n"
    code += "    def __init__(self, num_envs, device, seed, dim=3):\n"
    code += "        super().__init__(num_envs, device, seed, dim=dim)\n"
    (tmp_path / "my_untyped_pkg.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    env = env_factory("my_untyped_pkg.Mine", {"dim": 5})(2, CPU, 0)
    assert env.spec.obs_dim == 5


@pytest.mark.parametrize(
    ("class_path", "init_args", "word"),
    [
        (MAZE, '{"sped": 1}', "'sped' is not accepted"),
        (MAZE, '{"speed": "fast"}', "fast"),
        (MAZE, "[1]", "list"),
        ("epo_lightning.envs.classic.Nothing", "{}", "Nothing"),
        ("epo_lightning.learner.networks.NetworkSettings", "{}", "VectorEnv"),
    ],
)
def test_a_mistake_is_one_line(class_path: str, init_args: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([class_path, "--init_args", init_args])
    assert end.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "error: class_path or --init_args: " in line
    assert word in line
