"""A training that sees pictures."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from epo_lightning.envs.check import check_env
from epo_lightning.experience import room
from epo_lightning.library.policy import load_policy
from epo_lightning.limits import Mistake
from epo_runtime import Policy as InNumpy
from tests.support.bright_side import SIDE, BrightSide
from tests.support.command_line import Cli
from tests.support.sameness import assert_same, final_state

ENV = "tests.support.bright_side.BrightSide"
CASE = f"""
model:
  num_agents: 2
  network: {{gene_dim: 2, hidden: [16], image_channels: [4, 8], image_features: 8}}
  rollout: {{horizon: 8, num_epochs: 4, num_minibatches: 2}}
data: {{env: {ENV}, num_envs: 64, eval_episodes: 64, eval_envs: 32}}
trainer: {{accelerator: cpu, devices: 1}}
"""


def test_the_task_keeps_the_contract() -> None:
    check_env(BrightSide(3, torch.device("cpu"), 0), 10)


def test_what_is_in_the_picture_is_learnt_resumed_to_the_bit_and_acted_on(cli: Cli) -> None:
    Path("case.yaml").write_text(CASE)
    fit = ("fit", "--config", "case.yaml", "--run_dir")
    assert cli(*fit, "whole", "--trainer.max_epochs", 30).code == 0
    assert cli(*fit, "parts", "--trainer.max_epochs", 10).code == 0
    assert cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 30).code == 0
    assert_same(final_state("whole"), final_state("parts"))
    picture = np.full((SIDE, SIDE, 1), 40, np.uint8)
    picture[:, SIDE // 2 :] = 160
    policy, zero = load_policy("whole"), np.zeros(1)
    assert policy({"eye": picture, "nothing": zero}) == 1
    assert policy({"eye": picture[:, ::-1].copy(), "nothing": zero}) == 0
    both = {"eye": np.stack([picture, picture[:, ::-1]]), "nothing": np.zeros((2, 1))}
    assert policy(both).tolist() == [1, 0]
    with pytest.raises(Mistake, match=r"the group eye 6 x 6 x 1 got \(1, 6, 5, 1\), rows of 30 entries$"):
        policy({"eye": picture[:, 1:], "nothing": zero})
    assert cli("validate", "--ckpt_path", "whole").code == 0
    changed = cli("validate", "--ckpt_path", "whole", "--model.network.image_channels", "[4]")
    assert changed.code == 2
    assert "it has model.network.image_channels (4, 8), not (4,)" in changed.err


OTHERS = {
    "pbt": """
  num_agents: 2
  network: {hidden: [16], image_channels: [4, 8], image_features: 8}
  rollout: {horizon: 8, num_epochs: 4, num_minibatches: 2}""",
    "sac": """
  network: {actor: [16], critic: [16], atoms: null, image_channels: [4, 8], image_features: 8}
  optimizer: {learning_rate: 1.0e-3, updates_per_step: 2, actor_every: 1}
  replay: {capacity_per_env: 64, batch_size: 128, warmup: 4, horizon: 16}
  loss: {gamma: 0.5}""",
    "pql": """
  network: {actor: [16], critic: [16], image_channels: [4, 8], image_features: 8}
  optimizer: {learning_rate: 1.0e-3, updates_per_step: 2, actor_every: 1}
  replay: {capacity_per_env: 64, batch_size: 128, warmup: 4, horizon: 16}
  loss: {gamma: 0.5, n_step: 1}""",
    "cem_rl": """
  num_agents: 4
  network: {actor: [16], critic: [16], image_channels: [4, 8], image_features: 8}
  evolution: {gradient_members: 3, parents: 3, antithetic: false}
  optimizer:
    actor_learning_rate: 1.0e-2
    critic_learning_rate: 1.0e-2
    actor_updates_per_env_step: 0.1
    critic_updates_per_env_step: 0.15
  replay: {capacity_per_env: 64, batch_size: 64, warmup: 3}
  generation: {horizon: 2}
  loss: {gamma: 0.5}""",
}


@pytest.mark.parametrize("algorithm", OTHERS)
def test_the_other_algorithms_learn_from_pictures_too(cli: Cli, algorithm: str) -> None:
    discrete = "true" if algorithm == "pbt" else "false"
    Path("case.yaml").write_text(
        f"algorithm: {algorithm}\nmodel: {OTHERS[algorithm]}\n"
        f"data: {{env: {{class_path: {ENV}, init_args: {{discrete: {discrete}}}}}, num_envs: 64, eval_episodes: 64}}\n"
        "trainer: {accelerator: cpu, devices: 1}\n"
    )
    fit = ("fit", "--config", "case.yaml", "--run_dir")
    assert cli(*fit, "parts", "--trainer.max_epochs", 2).code == 0
    assert cli("fit", "--ckpt_path", "parts", "--trainer.max_epochs", 3).code == 0
    assert cli(*fit, "whole", "--trainer.max_epochs", 3).code == 0
    assert_same(final_state("whole"), final_state("parts"))
    assert cli("fit", "--ckpt_path", "whole", "--trainer.max_epochs", 30).code == 0
    policy, zero = load_policy("whole"), np.zeros((2, 1))
    picture = np.full((SIDE, SIDE, 1), 40, np.uint8)
    picture[:, SIDE // 2 :] = 160
    left, right = policy({"eye": np.stack([picture[:, ::-1], picture]), "nothing": zero})
    assert left < 0.5 < right if discrete == "true" else left < 0 < right
    exported = cli("export", "whole")
    assert exported.code == 0, exported.err
    row = {"eye": picture.ravel().astype(np.float32), "nothing": np.zeros(1)}
    in_numpy = np.ravel(InNumpy.load("whole/policy").act(row))
    assert float(in_numpy[0]) == pytest.approx(float(np.ravel(right)[0]), abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--model.network.image_channels", "[]"], "model.network.image_channels [] takes vectors"),
        (["--model.diversity.coefficient", "0.1"], "model.diversity.coefficient takes vectors"),
    ],
)
def test_who_sees_no_pictures_says_so(cli: Cli, settings: list[str], words: str) -> None:
    Path("case.yaml").write_text(CASE)
    outcome = cli("fit", "--config", "case.yaml", *settings)
    assert outcome.code == 2
    assert f"error: {words}, and the task's observation has the image eye 6 x 6 x 1: " in outcome.err


def test_pictures_that_do_not_fit_are_refused_before_they_are_tried(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda device: 2**20)
    Path("case.yaml").write_text(CASE)
    outcome = cli("fit", "--config", "case.yaml", "--data.num_envs", 1000)
    assert outcome.code == 2
    assert re.search(
        r"data\.num_envs 1000 needs \d+ MiB on cpu, where 1 MiB are free .*: lower it to at most \d+, or", outcome.err
    )
