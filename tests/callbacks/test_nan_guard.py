"""A NaN, wherever it comes from, ends the run with a name, and the last good checkpoint stays the last."""

import math
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from epo_lightning.callbacks import ElitePreservation, NaNGuard
from epo_lightning.envs.base import StepResult
from epo_lightning.modules.epo import EPOModule
from epo_lightning.run.run_checkpoints import RunCheckpoints
from tests.support.agent_reward import AgentReward
from tests.support.training import fit, small_data, small_module, train


class Poison(L.Callback):
    """Calls `spoil(module)` when the network sees minibatch `batch` of iteration `iteration`."""

    def __init__(self, spoil: Callable[[EPOModule], None], iteration: int = 1, batch: int = 1) -> None:
        self.spoil, self.iteration, self.batch = spoil, iteration, batch

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, EPOModule)
        if trainer.current_epoch == self.iteration:
            minibatches = count()
            pl_module.policy.register_forward_pre_hook(
                lambda policy, args: self.spoil(pl_module) if next(minibatches) == self.batch else None
            )


class PoisonGradient(L.Callback):
    """The loss is fine, its gradient is not."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        minibatches = count()

        def spoiled(gradient: torch.Tensor) -> torch.Tensor:
            return gradient + math.inf if next(minibatches) == self.batch else gradient

        pl_module.policy.genes.register_hook(spoiled)


def spoil_parameters(module: EPOModule) -> None:
    with torch.no_grad():
        module.policy.action_head.bias[0] = math.nan


def spoil_targets(module: EPOModule) -> None:
    """Of environment 3, at step 1; the next minibatch of the same iteration reads them."""
    module.dataset.buffer.targets[1, 3] = math.nan


def whole_batches(**network: Any) -> EPOModule:
    """Two minibatches an iteration, each with all the samples."""
    return small_module(rollout={"num_epochs": 2, "num_minibatches": 1}, **network)


def test_a_healthy_run_passes(tmp_path: Path) -> None:
    module = small_module()
    train(module, small_data(), tmp_path, 3, NaNGuard())
    assert module.metrics["charts/iteration"] == 3
    assert list(tmp_path.iterdir()) == []


def test_parameters(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite at iteration 1, minibatch 1") as caught:
        train(whole_batches(), small_data(), tmp_path, 4, Poison(spoil_parameters), NaNGuard())
    message = str(caught.value)
    assert "batch tensors all finite" in message
    assert "'action_head.bias'" in message
    assert str(tmp_path / "nan_batch.pt") in message
    assert "\n" not in message


@pytest.mark.parametrize("network", [{}, {"lstm_units": 4}])
def test_a_tensor_of_the_batch_and_its_environments(tmp_path: Path, network: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not finite at iteration 1, minibatch 1") as caught:
        train(whole_batches(**network), small_data(), tmp_path, 4, Poison(spoil_targets, batch=0), NaNGuard())
    assert r"batch tensors ['targets'] (envs [3])" in str(caught.value)


@pytest.mark.parametrize("network", [{}, {"lstm_units": 4}])
def test_the_batch_is_kept_and_holds_the_culprit(tmp_path: Path, network: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"the batch is in .*nan_batch\.pt"):
        train(whole_batches(**network), small_data(), tmp_path, 4, Poison(spoil_targets, batch=0), NaNGuard())
    batch = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    # 16 environments and 4 off-policy columns; transitions t * 20 + column, or sequences
    recurrent = bool(network)
    assert sorted(batch["units"].tolist()) == list(range(20 if recurrent else 80))
    wrong = batch["targets"].isnan().nonzero()
    assert len(wrong) == 1
    assert batch["units"][wrong[0, -1]] == (3 if recurrent else 20 + 3)
    finite = {name for name, value in batch.items() if torch.isfinite(value).all()}
    assert set(batch) - finite == {"targets"}
    assert batch["obs"].shape == ((4, 20, 2) if recurrent else (80, 2))


def test_a_batch_that_cannot_be_kept_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "nan_batch.pt").mkdir()
    with pytest.raises(ValueError, match=r"not finite at iteration 1.*could not be written to .* \(Is a directory\)"):
        train(whole_batches(), small_data(), tmp_path, 4, Poison(spoil_targets, batch=0), NaNGuard())


@pytest.mark.parametrize("batch", [0, 1])
def test_a_gradient(tmp_path: Path, batch: int) -> None:
    """Also in the last minibatch, whose loss is finite, before the parameters it spoils are used."""
    with pytest.raises(ValueError, match="loss or gradient not finite at iteration 0"):
        train(whole_batches(), small_data(), tmp_path, 4, PoisonGradient(batch), NaNGuard())


def test_a_reward_names_its_environments(tmp_path: Path) -> None:
    class Broken(AgentReward):
        def step(self, actions: torch.Tensor) -> StepResult:
            result = super().step(actions)
            reward = result.reward.clone()
            reward[[2, 5]] = math.nan if self.clock == 6 else 0.0
            return result._replace(reward=reward)

    checkpoints = RunCheckpoints(every_n_iterations=1)
    callbacks = [NaNGuard(), checkpoints]
    with pytest.raises(ValueError, match=r"AgentReward returned .* not finite in envs \[2, 5\]"):
        fit(small_module(), small_data(16, Broken), tmp_path, 4, callbacks=callbacks, enable_checkpointing=True)
    assert checkpoints.saved_iteration == 1


class TestCheckpoints:
    @staticmethod
    def assert_good(path: Path) -> None:
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())

    def test_the_last_good_one_stays(self, tmp_path: Path) -> None:
        checkpoints = RunCheckpoints(every_n_iterations=1)
        callbacks = [checkpoints, Poison(spoil_parameters), NaNGuard()]
        with pytest.raises(ValueError, match="not finite at iteration 1"):
            fit(whole_batches(), small_data(), tmp_path, 4, callbacks=callbacks, enable_checkpointing=True)
        assert checkpoints.saved_iteration == 1
        for path in (tmp_path / "checkpoints").iterdir():
            self.assert_good(path)
        last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["epoch"] == 0

    @pytest.mark.parametrize("guard_first", [True, False])
    def test_so_does_the_best_master(self, tmp_path: Path, guard_first: bool) -> None:
        """In either order of the list: the packaged configurations have the guard last."""

        class Rising(AgentReward):
            def step(self, actions: torch.Tensor) -> StepResult:
                result = super().step(actions)
                return result._replace(reward=result.reward + self.clock)

        elites = ElitePreservation(archive_size=2, every_n_env_steps=64)
        pair = [NaNGuard(), elites] if guard_first else [elites, NaNGuard()]
        data = small_data(16, Rising)
        with pytest.raises(ValueError, match="not finite at iteration 1"):
            train(whole_batches(), data, tmp_path, 4, Poison(spoil_parameters), *pair)
        self.assert_good(tmp_path / "checkpoints" / "best_master.ckpt")
