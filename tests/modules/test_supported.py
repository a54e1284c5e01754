"""Strategies, precisions and callbacks that an update loop of our own does not go with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import lightning as L
import pytest
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from epo_lightning.limits import Mistake
from epo_lightning.modules import ALGORITHMS, algorithm_class
from epo_lightning.modules.supported import SKIPPED_HOOKS, require_supported
from tests.support.training import fit, small_data, small_module

StartMethod = Literal["spawn", "fork", "forkserver"]
PrecisionName = Literal["64-true", "16-true", "bf16-true", "32-true", "bf16-mixed"] | None


def trainer_with(**arguments: Any) -> L.Trainer:
    """On the CPU."""
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **arguments)


def test_a_strategy_that_takes_the_network_apart_is_refused() -> None:
    trainer: Any = SimpleNamespace(strategy=FSDPStrategy(), precision_plugin=None)
    with pytest.raises(Mistake, match=r"trainer\.strategy FSDPStrategy is not supported.*auto or ddp"):
        require_supported(trainer, trains=True)


@pytest.mark.parametrize("start_method", ["spawn", "fork", "forkserver"])
def test_processes_that_are_not_started_by_the_command_line_are_refused(start_method: StartMethod) -> None:
    trainer = trainer_with(strategy=DDPStrategy(start_method=start_method), devices=2)
    with pytest.raises(Mistake, match=r"trainer\.strategy DDPStrategy.*use ddp"):
        require_supported(trainer, trains=True)


@pytest.mark.parametrize("precision", ["64-true", "16-true", "bf16-true"])
def test_weights_that_are_not_single_are_refused_for_every_command(precision: PrecisionName) -> None:
    for trains in (True, False):
        with pytest.raises(Mistake, match=rf"trainer\.precision {precision}.*bf16-mixed"):
            require_supported(trainer_with(precision=precision), trains=trains)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", None])
def test_the_other_precisions_are_fine(precision: PrecisionName) -> None:
    require_supported(trainer_with(precision=precision), trains=True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_losses_that_nobody_scales_are_refused_where_they_are_trained(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    monkeypatch.setattr(L.Trainer, "precision", "16-mixed")  # which a CPU does not have
    unscaled = algorithm_class(algorithm).unscaled
    require_supported(trainer_with(), trains=False, unscaled=unscaled)
    if algorithm == "epo":
        return require_supported(trainer_with(), trains=True, unscaled=unscaled)
    with pytest.raises(Mistake, match=r"^trainer\.precision 16-mixed: .* use bf16-mixed or 32-true$"):
        require_supported(trainer_with(), trains=True, unscaled=unscaled)


def test_other_nodes_must_be_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    trainer = trainer_with(strategy="ddp", devices=1, num_nodes=2)
    with pytest.raises(Mistake, match=r"trainer\.num_nodes 2.*torchrun"):
        require_supported(trainer, trains=True)
    monkeypatch.setenv("MASTER_ADDR", "node0")
    require_supported(trainer, trains=True)


def test_a_thousand_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    require_supported(trainer_with(strategy="ddp", devices=16), trains=True)
    with pytest.raises(Mistake, match=r"trainer\.devices 17.*4 core"):
        require_supported(trainer_with(strategy="ddp", devices=17), trains=True)


@pytest.mark.parametrize("hook", SKIPPED_HOOKS)
def test_a_callback_that_waits_for_single_steps_is_told(tmp_path: Path, hook: str) -> None:
    waiting = type("Waiting", (L.Callback,), {hook: lambda *args: pytest.fail("called")})()
    with pytest.warns(UserWarning, match=rf"trainer\.callbacks Waiting: {hook} is never called"):
        fit(small_module(), small_data(), tmp_path, 1, callbacks=[waiting])
