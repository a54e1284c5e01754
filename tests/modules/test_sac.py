"""Soft actor-critic in small trainings."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.sac import SACLossSettings
from epo_lightning.callbacks import NaNGuard
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.replay import ReplaySettings
from epo_lightning.learner.adamw import AdamWSettings
from epo_lightning.learner.q_networks import SACNetworkSettings
from epo_lightning.limits import Mistake
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.sac import SACModule
from tests.support.replay_training import data, fit, one_thread, settings_of, weights
from tests.support.training import Recorder

GROUPS: list[tuple[Any, dict[str, Any]]] = [
    (SACNetworkSettings, {"actor": (16,), "critic": (16,), "atoms": 21}),
    (SACLossSettings, {}),
    (AdamWSettings, {"updates_per_step": 4, "actor_every": 3}),
    (ReplaySettings, {"capacity_per_env": 20, "batch_size": 32, "warmup": 6, "horizon": 4}),
]


def module(**changes: Any) -> SACModule:
    """Tiny networks; 4 env steps an iteration, of which the first 6 are random, 4 updates each."""
    return SACModule(*settings_of(GROUPS, changes))


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


class TestUpdates:
    def test_nothing_is_learnt_in_the_warm_up(self, tmp_path: Path) -> None:
        untrained, trained = module(warmup=9), module(warmup=9)
        fit(untrained, data(), tmp_path, 0)
        fit(trained, data(), tmp_path, 2)
        assert trained.minibatches.totals == []
        same = ["policy.mlp", "critic", "target_critic", "log_temperature"]
        for part in same:
            before, after = weights(untrained, part), weights(trained, part)
            assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert trained.dataset.buffer.filled == 8

    def test_everything_is_learnt_afterwards(self, tmp_path: Path) -> None:
        before, trained = module(), module()
        fit(before, data(), tmp_path, 1)
        fit(trained, data(), tmp_path, 3)
        for part in ("policy.mlp", "critic", "target_critic", "log_temperature"):
            for old, new in zip(weights(before, part), weights(trained, part), strict=True):
                assert not torch.equal(old, new), part

    def test_how_many(self, tmp_path: Path) -> None:
        trained = module()
        fit(trained, data(), tmp_path, 2)
        # of 8 env steps the last 3 are learned from: 12 updates of the critics, and in every third of the actor
        assert len(trained.minibatches.totals) == 12
        assert len(trained.minibatches.grad_norms) == 12 + 4

    def test_target_nets_follow_slowly(self, tmp_path: Path) -> None:
        trained = module(tau=1.0)
        fit(trained, data(), tmp_path, 2)
        pairs = list(zip(weights(trained, "critic"), weights(trained, "target_critic"), strict=True))
        assert all(torch.equal(own, target) for own, target in pairs)
        trained = module(tau=0.125)
        fit(trained, data(), tmp_path, 2)
        pairs = list(zip(weights(trained, "critic"), weights(trained, "target_critic"), strict=True))
        assert not any(torch.equal(own, target) for own, target in pairs)
        assert not any(parameter.requires_grad for parameter in trained.target_critic.parameters())

    def test_gradients_do_not_outlive_their_step(self, tmp_path: Path) -> None:
        trained = module()
        fit(trained, data(), tmp_path, 2)
        assert all(parameter.grad is None for parameter in trained.parameters())

    def test_an_actor_that_would_never_learn_is_refused(self) -> None:
        with pytest.raises(Mistake, match=r"model\.optimizer\.actor_every .* at most 16, got 17"):
            module(actor_every=17)
        module(actor_every=16)

    def test_choices_are_refused(self) -> None:
        with pytest.raises(Mistake, match="Maze has discrete actions"):
            SACModule.build_policy(Identity("sac", "Maze", 2, 3, discrete=True, model={}))

    def test_bfloat16(self, tmp_path: Path) -> None:
        trained = module()
        fit(trained, data(), tmp_path, 3, precision="bf16-mixed")
        assert all(torch.isfinite(value).all() for value in trained.state_dict().values())
        assert all(value.dtype == torch.float32 for value in weights(trained, "critic"))


class TestLog:
    def test_names_and_numbers(self, tmp_path: Path) -> None:
        logger = Recorder()
        fit(module(), data(max_steps=3), tmp_path, 3, logger=logger)
        warming, learning = set(logger.calls[0][0]), set(logger.calls[2][0])
        assert [step for _, step in logger.calls] == [32, 64, 96]
        losses = {"critic_loss", "value", "entropy", "total", "grad_norm", "actor_loss"}
        assert learning - warming == {f"losses/{name}" for name in losses}
        assert {"charts/temperature", "charts/replay_steps", "time/env", "time/inference"} <= warming
        assert [metrics["charts/replay_steps"] for metrics, _ in logger.calls] == [4, 8, 12]
        assert logger.calls[0][0]["charts/temperature"] == pytest.approx(1e-3)
        assert all(math.isfinite(value) for metrics, _ in logger.calls for value in metrics.values())


class TestResume:
    @pytest.mark.parametrize("iterations", [1, 2, 4])
    def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(self, tmp_path: Path, iterations: int) -> None:
        whole, first, second = module(), module(), module()
        fit(whole, data(max_steps=7), tmp_path, 7)
        fit(first, data(max_steps=7), tmp_path, iterations).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
        fit(second, data(max_steps=7), tmp_path, 7, ckpt_path=tmp_path / "a.ckpt")
        mine, theirs = whole.state_dict(), second.state_dict()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
        everything = torch.arange(len(whole.dataset.buffer))
        for a, b in zip(*(trained.dataset.buffer.gather(everything) for trained in (whole, second)), strict=True):
            assert torch.equal(a, b)
        assert whole.metrics["charts/env_steps"] == second.metrics["charts/env_steps"] == 7 * 4 * 8

    def test_other_settings_hold_after_a_resume(self, tmp_path: Path) -> None:
        first, second = module(), module(learning_rate=1e-5)
        fit(first, data(), tmp_path, 2).save_checkpoint(tmp_path / "a.ckpt")
        trainer = fit(second, data(), tmp_path, 3, ckpt_path=tmp_path / "a.ckpt")
        assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [1e-5] * 3

    def test_another_network_is_refused(self, tmp_path: Path) -> None:
        fit(module(), data(), tmp_path, 2).save_checkpoint(tmp_path / "a.ckpt")
        with pytest.raises(Mistake, match=r"model\.network\.atoms 21, not None"):
            fit(module(atoms=None), data(), tmp_path, 3, ckpt_path=tmp_path / "a.ckpt")


class TestGuard:
    def test_what_diverges_is_stopped(self, tmp_path: Path) -> None:
        with pytest.raises(Mistake, match=r"not finite at iteration \d+, minibatch \d+"):
            fit(module(learning_rate=1e30), data(), tmp_path, 4, callbacks=[NaNGuard()])


@pytest.mark.parametrize(
    "changes", [{}, {"bootstrap": "min"}, {"atoms": None}, {"atoms": None, "bootstrap": "min"}], ids=str
)
def test_it_learns_the_probe(tmp_path: Path, changes: dict[str, Any]) -> None:
    # the action is to be -1/2 of the observation: 0 is wrong by 0.25 in the mean
    trained = module(
        **{"actor": (32,), "critic": (32, 32), "value_min": -4.0, "value_max": 0.5, "batch_size": 64, **changes},
        learning_rate=3e-3, capacity_per_env=200, horizon=40, actor_every=2,
    )  # fmt: skip
    fit(trained, data(Probe, 32), tmp_path, 4)
    obs = 2 * torch.rand(256, 2, generator=torch.Generator().manual_seed(0)) - 1
    policy = trained.policy
    actions, _ = policy.act(obs, torch.zeros(256, dtype=torch.long), policy.initial_state(256))
    assert (actions + 0.5 * obs).abs().mean() < 0.08
