"""What could not be loaded is told when it can still be mended, by its name, and the last good checkpoint stays."""

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.saved_state import require_readable
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import Cli, Outcome

FIT = ("fit", "--config", "tiny.yaml", "--run_dir", "run", "--checkpoint.every_n_iterations", "1",
       "--trainer.max_epochs", "4")  # fmt: skip
Pair = namedtuple("Pair", "a b")
ODD: dict[str, Callable[[], Any]] = {
    "a numpy array": lambda: np.zeros(3),
    "a numpy number": lambda: np.float64(1.0),
    "a numpy generator": lambda: np.random.default_rng(0),
    "a torch generator": torch.Generator,
    "a function": lambda: len,
    "a lambda": lambda: lambda: 0,
    "a class": lambda: Probe,
    "a path": lambda: Path("x"),
    "a named tuple": lambda: Pair(1, 2),
    "a module": lambda: torch.nn.Linear(1, 1),
    "a range": lambda: range(3),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_does_not_read_back_is_named_by_its_path(kind: str) -> None:
    state = {"clock": torch.zeros(3), "inner": [{"fine": 1}, {"fine": (1.0, "x", None, True), "odd": ODD[kind]()}]}
    with pytest.raises(
        ValueError, match=r"^env\.inner\[1\]\.odd is a \S+, which a checkpoint cannot give back: .*; here"
    ):
        require_readable(state, "env", "here")


def test_a_key_and_a_state_that_holds_itself_are_named() -> None:
    with pytest.raises(ValueError, match=r"^the key .*3.* of env\.a is a numpy"):
        require_readable({"a": {np.int64(3): 1}}, "env", "here")
    endless: list[Any] = [np.zeros(1)]
    endless.append(endless)
    with pytest.raises(ValueError, match=r"cannot give back"):
        require_readable({"a": endless}, "env", "here")


def test_what_reads_back_passes() -> None:
    values = [1, 2.5, True, None, "x", b"x", 1j, {1: 2}, (1, [2]), torch.float32, torch.device("cpu"), torch.Size([2])]
    sparse = torch.eye(2).to_sparse()
    tensors = [torch.zeros(2, 0), torch.tensor(torch.nan), torch.nn.Parameter(torch.zeros(2)), sparse]
    require_readable({"values": values, "tensors": tensors}, "", "")


class Odd(Probe):
    """Keeps a numpy generator, as many do."""

    kind = "a numpy generator"
    after = 0
    clock = 0

    def step(self, actions: torch.Tensor) -> StepResult:
        self.clock += 1
        return super().step(actions)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **({"rng": ODD[self.kind]()} if self.clock >= self.after else {})}


class LateOdd(Odd):
    """Has nothing odd to save before the third iteration."""

    after = 9


class OddCallback(L.Callback):
    """A callback's state is saved, too."""

    def state_dict(self) -> dict[str, Any]:
        return {"seen": {"scores": np.zeros(2)}}


def assert_error(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 2
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, outcome.err
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize("kind", ODD)
def test_an_environment_that_cannot_be_saved_is_refused_before_it_is_trained_in(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Odd, "kind", kind)
    assert_error(cli(*FIT, f"--data.env={__name__}.Odd"), "env.rng is a", "Probe", "state_dict()")
    assert not Path("run/metrics.csv").exists()


def test_what_comes_later_does_not_replace_the_last_checkpoint(cli: Cli) -> None:
    assert_error(cli(*FIT, f"--data.env={__name__}.LateOdd"), "ranks[0].env.rng is a numpy", "last.ckpt")
    assert read_checkpoint(Path("run/checkpoints/last.ckpt"))["epoch"] == 1


def test_a_callback_that_cannot_be_saved_is_refused_before_the_training(cli: Cli) -> None:
    outcome = cli(*FIT, f"--trainer.callbacks={__name__}.OddCallback")
    assert_error(outcome, "state_dict() of OddCallback.seen.scores is a numpy.ndarray", "trainer.callbacks")
    assert not Path("run/metrics.csv").exists()


class Explodes(Probe):
    """Rewards, or observations, leave float32 in the third iteration: their squares are infinite."""

    what = "reward"
    clock = 0

    def step(self, actions: torch.Tensor) -> StepResult:
        result = super().step(actions)
        self.clock += 1
        if self.clock <= 8:
            return result
        return result._replace(**{self.what: getattr(result, self.what) * 1e30})


class ExplodesInSight(Explodes):
    """The observations."""

    what = "obs"


@pytest.mark.parametrize(("env", "tensor"), [("Explodes", "value_moments.var"), ("ExplodesInSight", "obs_moments.var")])
def test_a_normaliser_that_overflowed_is_not_saved(cli: Cli, env: str, tensor: str) -> None:
    outcome = cli(*FIT, f"--data.env={__name__}.{env}", "--data.env.init_args.max_steps=3")
    assert_error(outcome, f"state_dict.policy.{tensor}", "at iteration 3", "scale the observations and rewards")
    last = read_checkpoint(Path("run/checkpoints/last.ckpt"))
    assert last["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())


@pytest.mark.parametrize("command", ["fit", "validate", "test", "play", "view"])
def test_weights_that_are_not_finite_are_refused_by_every_command(cli: Cli, command: str) -> None:
    assert cli(*FIT).code == 0
    path = Path("run/checkpoints/last.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["policy.action_head.bias"][0] = torch.nan
    torch.save(checkpoint, path)
    assert_error(cli(command, "--ckpt_path", "run"), "last.ckpt cannot be used", "state_dict.policy.action_head.bias")
