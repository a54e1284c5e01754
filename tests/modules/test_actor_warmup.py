"""The iterations in which only the critic learns."""

from pathlib import Path

import lightning as L
import torch
from torch import Tensor

from epo_lightning.modules.epo import EPOModule
from tests.support.training import fit, small_data, small_module

LOSS = {"actor_warmup_iterations": 2, "entropy_scale": 0.4, "coupling_coefficient": 0.1, "imitation_coefficient": 0.1}


def run(folder: Path, iterations: int, ckpt_path: Path | None = None) -> tuple[L.Trainer, EPOModule]:
    module = small_module(loss=LOSS, rollout={"num_epochs": 4, "imitated_fraction": 0.1}, separate_critic=True)
    return fit(module, small_data(), folder, iterations, ckpt_path=ckpt_path), module


def parameters(module: EPOModule, *names: str) -> list[Tensor]:
    return [value for key, value in module.policy.named_parameters() if key.partition(".")[0] in names]


def test_the_actor_stays_and_the_critic_learns_and_a_resumed_run_knows_when_it_is_over(tmp_path: Path) -> None:
    (trainer, one), (_, two), (_, three) = (run(tmp_path, iterations) for iterations in (1, 2, 3))
    trainer.save_checkpoint(tmp_path / "one.ckpt", weights_only=False)
    _, resumed = run(tmp_path, 3, tmp_path / "one.ckpt")
    for before, after, later, again in zip(
        *(parameters(each, "actor", "action_head", "log_std") for each in (one, two, three, resumed)), strict=True
    ):
        assert torch.equal(before, after)
        assert not torch.equal(after, later)
        assert torch.equal(later, again)
    for before, after in zip(*(parameters(each, "critic") for each in (one, two)), strict=True):
        assert not torch.equal(before, after)
    assert one.metrics["charts/learning_rate"] == two.metrics["charts/learning_rate"]
    assert two.metrics["charts/learning_rate"] != three.metrics["charts/learning_rate"]
    assert {name for name in two.metrics if name.startswith("losses")} == {
        name for name in three.metrics if name.startswith("losses")
    }
