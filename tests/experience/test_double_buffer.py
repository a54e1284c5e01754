"""Double buffering: one half of the environments steps while the other is inferred, as if they took turns."""

from functools import partial
from pathlib import Path
from threading import Condition
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.base import EnvFactory, StepResult
from epo_lightning.envs.classic import PointMaze, Probe
from epo_lightning.envs.halves import COLUMNS, Halves, in_halves, interleaved
from epo_lightning.limits import Mistake
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from tests.support.sameness import assert_same
from tests.support.training import fit, small_module

CPU = torch.device("cpu")
KUKA: EnvFactory = partial(AllegroKuka, task="single_arm_reorient", threads=1)
RUNS: dict[str, tuple[EnvFactory, dict[str, Any], dict[str, Any]]] = {
    "Kuka arm, LSTM": (KUKA, {"lstm_units": 8}, {}),
    "maze, correlated noise, late starts": (
        partial(PointMaze, max_steps=5), {}, {"noise_correlation": 0.5, "staggered_starts": True},
    ),
}  # fmt: skip


def halved(env: EnvFactory, num_envs: int = 16) -> RolloutDataModule:
    """Environments that step by halves."""
    return RolloutDataModule(env, num_envs, double_buffer=True)


def trained(folder: Path, run: str, iterations: int = 2, **changes: Any) -> tuple[EPOModule, dict[str, Any]]:
    """A short training, and everything that its next iteration depends on."""
    env, network, rollout = RUNS[run]
    module = small_module(rollout=rollout, **network)
    fit(module, halved(env), folder, iterations, **changes)
    assert isinstance(module.dataset.env, Halves)
    return module, {"weights": module.state_dict(), **module.dataset.saved()}


@pytest.mark.parametrize("run", RUNS)
def test_results_are_those_of_one_half_after_the_other(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, both_at_once = trained(tmp_path, run)
    actions = module.dataset.buffer.actions
    monkeypatch.setattr("epo_lightning.modules.data.in_halves", partial(in_halves, overlap=False))
    other, one_by_one = trained(tmp_path, run)
    assert_same(one_by_one, both_at_once)
    assert torch.equal(other.dataset.buffer.actions, actions)
    assert not torch.equal(*(actions[:, columns] for columns in COLUMNS))


def test_a_run_that_goes_on_does_so_to_the_bit_and_not_without_halves(tmp_path: Path) -> None:
    run = "maze, correlated noise, late starts"
    _, whole = trained(tmp_path, run)
    env, network, rollout = RUNS[run]
    trainer = fit(small_module(rollout=rollout, **network), halved(env), tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = trained(tmp_path, run, ckpt_path=tmp_path / "half.ckpt")
    assert_same(resumed, whole)
    undivided = RolloutDataModule(env, 16)
    with pytest.raises(Mistake, match=r"^data\.double_buffer must be true, as in the saved state; got false$"):
        fit(small_module(rollout=rollout, **network), undivided, tmp_path, 2, ckpt_path=tmp_path / "half.ckpt")


class Waiting(Probe):
    """Its first step ends when the network was asked twice: for the other half, too."""

    asked = Condition()
    times = 0
    threads: ClassVar[set[int]] = set()

    def step(self, actions: Tensor) -> StepResult:
        self.threads.add(torch.get_num_threads())
        with self.asked:
            assert self.asked.wait_for(lambda: Waiting.times >= 2, timeout=60)
        return super().step(actions)


def test_the_other_half_is_inferred_while_one_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Waiting.times = 0

    def tell(*_: object) -> None:
        with Waiting.asked:
            Waiting.times += 1
            Waiting.asked.notify_all()

    class Watch(PopulationCallback):
        def on_train_start(self, *_: object) -> None:
            self.module.policy.register_forward_pre_hook(tell)

    monkeypatch.setattr(Waiting, "threads", set())
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        fit(small_module(), halved(partial(Waiting, max_steps=3)), tmp_path, 1, callbacks=[Watch()])
    finally:
        torch.set_num_threads(before)
    assert Waiting.times > 2
    assert Waiting.threads == {3}  # those of the thread that learns: how torch adds up depends on them


def test_both_halves_are_one_environment_for_whoever_does_not_know_them() -> None:
    parts = Probe(3, CPU, 1, max_steps=4), Probe(3, CPU, 2, max_steps=4)
    both = in_halves(lambda n, seed: Probe(n, CPU, seed, max_steps=4), 6, (1, 2))
    assert torch.equal(both.reset(), interleaved(*(part.reset() for part in parts)))
    assert both.spec.num_envs == 6
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        actions = both.spec.random_actions(generator)
        result = both.step(actions)
        singles = [part.step(actions[columns]) for part, columns in zip(parts, COLUMNS, strict=True)]
        for name in ("obs", "reward", "terminated", "truncated", "successes"):
            assert torch.equal(getattr(result, name), interleaved(*(getattr(one, name) for one in singles)))
        for name, value in result.log.items():
            mean = torch.stack([torch.as_tensor(one.log[name]).float().mean() for one in singles]).mean()
            assert torch.as_tensor(value).float().mean() == pytest.approx(float(mean))
    both.close()


def test_what_cannot_be_halved_is_refused_in_one_line(tmp_path: Path) -> None:
    probe = partial(Probe, max_steps=3)
    with pytest.raises(Mistake, match=r"^data\.double_buffer needs two halves: data\.num_envs must be even.*got 15$"):
        fit(small_module(num_agents=3), halved(probe, 15), tmp_path)
    with pytest.raises(Mistake, match=r"^data\.double_buffer needs an even number.*a multiple of 8$"):
        fit(small_module(), halved(probe, 12), tmp_path)
