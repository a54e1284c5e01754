"""Parallel Q-Learning in small trainings."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.pql import PQLLossSettings
from epo_lightning.callbacks import NaNGuard
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Pendulum, Probe
from epo_lightning.experience.n_step import ExplorationSettings
from epo_lightning.experience.replay import ReplaySettings
from epo_lightning.learner.adamw import AdamWSettings
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.limits import Mistake
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.pql import PQLModule
from tests.support.replay_training import data, fit, one_thread, settings_of, weights
from tests.support.training import Recorder

GROUPS: list[tuple[Any, dict[str, Any]]] = [
    (PQLNetworkSettings, {"actor": (16,), "critic": (16,)}),
    (PQLLossSettings, {}),
    (ExplorationSettings, {}),
    (AdamWSettings, {"actor_every": 2, "learning_rate": 5e-4, "max_grad_norm": 0.5}),
    (ReplaySettings, {"capacity_per_env": 20, "batch_size": 32, "warmup": 6, "horizon": 4}),
]


def module(**changes: Any) -> PQLModule:
    """Tiny networks; 4 env steps an iteration, of which the first 6 are random."""
    return PQLModule(*settings_of(GROUPS, changes))


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


class Counted(Pendulum):
    """Counts its steps."""

    calls: ClassVar[Counter[str]] = Counter()

    def step(self, actions: Tensor) -> StepResult:
        self.calls["env"] += 1
        return super().step(actions)


def noting(method: Callable[..., Any], order: list[str]) -> Callable[..., Any]:
    """`method`, which writes its name into `order` whenever it is called."""

    @wraps(method)
    def noted(*arguments: object) -> object:
        order.append(method.__name__)
        return method(*arguments)

    return noted


def test_three_speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One env step of all environments, four updates of the actor, eight of the critics: in this order, and exactly."""
    calls, order = Counter[str](), list[str]()
    for name in ("values_loss", "policy_loss"):
        monkeypatch.setattr(PQLModule, name, noting(getattr(PQLModule, name), order))
    monkeypatch.setattr(Counted, "calls", calls)
    trained = PQLModule(PQLNetworkSettings((8,), (8,)), replay=ReplaySettings(20, 16, warmup=4, horizon=10))
    fit(trained, data(Counted), tmp_path, 1)
    learnt = calls["env"] - 3  # the fourth step is the first that is learnt from
    assert (learnt, order.count("policy_loss"), order.count("values_loss")) == (7, 7 * 4, 7 * 8)
    assert order == ["values_loss", "values_loss", "policy_loss"] * 28
    assert len(trained.minibatches.totals) == 7 * 8
    assert len(trained.minibatches.grad_norms) == 7 * 12


class TestUpdates:
    def test_everything_is_learnt_after_the_warm_up_and_nothing_in_it(self, tmp_path: Path) -> None:
        before, warming, trained = module(), module(), module()
        fit(before, data(), tmp_path, 0)
        fit(warming, data(), tmp_path, 1)
        fit(trained, data(), tmp_path, 2)
        for part in ("policy.mlp", "critic", "target_critic"):
            for old, same, new in zip(
                weights(before, part), weights(warming, part), weights(trained, part), strict=True
            ):
                assert torch.equal(old, same), part
                assert not torch.equal(old, new), part
        assert trained.dataset.buffer.filled == 6

    def test_only_the_critics_have_target_nets(self, tmp_path: Path) -> None:
        trained = module(tau=1.0)
        fit(trained, data(), tmp_path, 2)
        assert all(map(torch.equal, weights(trained, "critic"), weights(trained, "target_critic")))
        assert {name.split(".")[0] for name in trained.state_dict()} == {"policy", "critic", "target_critic"}

    def test_the_scale_of_rewards_reaches_the_critics_and_not_the_log(self, tmp_path: Path) -> None:
        values, logged = [], []
        for scale in (1.0, 0.01):
            trained, logger = module(reward_scale=scale, learning_rate=0.02), Recorder()
            fit(trained, data(max_steps=3), tmp_path, 8, logger=logger)
            values.append(logger.calls[-1][0]["losses/value"])
            logged.append(logger.calls[0][0]["charts/episodic_return"])
        assert logged[0] == logged[1]
        assert values[0] < -1.0 < values[1]

    def test_gradients_do_not_outlive_their_step(self, tmp_path: Path) -> None:
        trained = module()
        fit(trained, data(), tmp_path, 2)
        assert all(parameter.grad is None for parameter in trained.parameters())

    def test_choices_are_refused(self) -> None:
        with pytest.raises(Mistake, match="Maze has discrete actions"):
            PQLModule.build_policy(Identity("pql", "Maze", 2, 3, discrete=True, model={}))

    def test_bfloat16_with_atoms(self, tmp_path: Path) -> None:
        trained = module(atoms=21)
        fit(trained, data(), tmp_path, 3, precision="bf16-mixed")
        assert all(torch.isfinite(value).all() for value in trained.state_dict().values())


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
        waiting = [trained.dataset.buffer.state_dict()["waiting"] for trained in (whole, second)]
        assert waiting[0].shape == (2, 8, 2 * 3 + 1 + 3)
        assert torch.equal(*waiting)

    def test_another_network_is_refused(self, tmp_path: Path) -> None:
        fit(module(), data(), tmp_path, 2).save_checkpoint(tmp_path / "a.ckpt")
        with pytest.raises(Mistake, match=r"model\.network\.atoms None, not 21"):
            fit(module(atoms=21), data(), tmp_path, 3, ckpt_path=tmp_path / "a.ckpt")


def test_what_diverges_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"not finite at iteration \d+, minibatch \d+"):
        fit(module(learning_rate=1e30), data(), tmp_path, 4, callbacks=[NaNGuard()])


@pytest.mark.parametrize("atoms", [None, 51], ids=["PQL", "PQL-D"])
def test_it_learns_the_probe(tmp_path: Path, atoms: int | None) -> None:
    # the action is to be -1/2 of the observation: 0 is wrong by 0.25 in the mean
    trained = module(
        actor=(32,), critic=(32, 32), atoms=atoms, value_min=-4.0, value_max=0.5, batch_size=64, learning_rate=3e-3,
        capacity_per_env=200, horizon=40,
    )  # fmt: skip
    fit(trained, data(Probe, 32), tmp_path, 4)
    obs = 2 * torch.rand(256, 2, generator=torch.Generator().manual_seed(0)) - 1
    policy = trained.policy
    actions, _ = policy.act(obs, torch.zeros(256, dtype=torch.long), policy.initial_state(256))
    assert (actions + 0.5 * obs).abs().mean() < 0.08
