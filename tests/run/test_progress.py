"""What is shown of a running training: one line on a terminal, plain lines elsewhere, or the user's own bar."""

import fcntl
import itertools
import math
import os
import pty
import struct
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor
from tqdm.auto import tqdm

from epo_lightning.cli.entry import main
from epo_lightning.envs.base import StepResult
from epo_lightning.run import progress
from epo_lightning.run.progress import RemainingTime, fit, short, tell
from tests.support.agent_reward import AgentReward
from tests.support.command_line import TINY, Cli
from tests.support.training import fit as train
from tests.support.training import small_data, small_module

METRICS = {
    "charts/iteration": 45,
    "charts/env_steps": 1_474_560,
    "charts/sps": 45_123.4,
    "charts/episodic_return": -34.217,
    "charts/episodic_successes": 0.984,
}
SEEN: list[dict[str, Any]] = []


class Watching(ProgressBar):
    """A user's own bar, which keeps what it could show."""

    def disable(self) -> None: ...

    def enable(self) -> None: ...

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, None, batch, batch_idx)
        SEEN.append({"of": self.total_train_batches, "at": batch_idx + 1, **self.get_metrics(trainer, pl_module)})


class Succeeding(AgentReward):
    """Every episode has one success."""

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(successes=result.terminated.float())


class Eager(tqdm):  # type: ignore[misc]  # it has no types
    """Shows every iteration, however fast they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, mininterval=0)


def on_terminal(columns: int, monkeypatch: pytest.MonkeyPatch, *args: str) -> list[str]:
    """Run a command whose standard error is a terminal; everything that stood on it, line by line."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reader, 4096):
            written.append(chunk)
            if chunk.endswith(b"\x04"):
                return

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        assert main([*args]) == 0
        stderr.write("\x04")
        stderr.flush()
        thread.join()
    os.close(reader)
    lines = b"".join(written).decode().removesuffix("\x04").replace("\n", "\r").split("\r")
    return [line for line in lines if line.strip()]


def test_a_line_tells_iteration_steps_return_successes_speed_and_time_left() -> None:
    fields = tell(METRICS, 120, 75.2, succeeds=True)
    assert fit(fields, 80) == "45/120, 1.47M env steps, return -34.22, successes 0.984, 45.1k/s, 01:15 left"


def test_without_an_end_or_a_success_nothing_is_invented() -> None:
    metrics = METRICS | {"charts/episodic_return": math.nan, "charts/episodic_successes": 0.0, "charts/generation": 4}
    fields = tell(metrics, None, math.inf, succeeds=False)
    assert fit(fields, None) == "45, 1.47M env steps, return -, successes -, 45.1k/s, generation 4"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (79, "45/120, 1.47M env steps, return -34.22, successes 0.984, 45.1k/s, 01:15 left"),
        (70, "45/120, 1.47M env steps, return -34.22, successes 0.984, 01:15 left"),
        (50, "45/120, return -34.22, successes 0.984, 01:15 left"),
        (40, "45/120, return -34.22, 01:15 left"),
        (22, "45/120, return -34.22"),
        (6, "45/120"),
        (3, "45/"),
    ],
)
def test_what_has_no_room_is_left_out_the_least_important_first(width: int, line: str) -> None:
    fields = tell(METRICS | {"charts/generation": 4}, 120, 75.2, succeeds=True)
    assert fit(fields, width) == line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (64, "64"), (999.4, "999"), (999.6, "1k"), (12_345, "12.3k"), (999_600, "1M"), (3.9e9, "3.9G"),
        (-1.234e13, "-12.3T"), (0.01234, "0.0123"), (math.nan, "-"), (math.inf, "infT"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_the_time_left_is_that_of_the_latest_iterations() -> None:
    remaining = RemainingTime(100.0, memory=2)
    assert remaining.seconds(10) == math.inf  # nothing is known yet
    remaining.tick(108.0, 4)  # a run that resumes after three
    assert remaining.seconds(10) == 6 * 8
    remaining.tick(109.0, 5)
    remaining.tick(110.0, 6)
    remaining.tick(111.0, 6)  # told twice
    assert remaining.seconds(10) == 4 * 1  # the first one, which was slow, is forgotten
    assert remaining.seconds(None) == math.inf
    assert remaining.seconds(5) == 0


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_on_a_terminal_no_line_is_wider_than_80_columns_or_than_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    monkeypatch.setattr(progress, "tqdm", Eager)
    lines = on_terminal(columns, monkeypatch, "fit", "--config", "tiny.yaml", "--trainer.max_epochs=6")
    shown = [line for line in lines if "/6, " in line]
    assert shown[-1].startswith("6/6, ")
    assert max(len(line) for line in shown) < min(columns, 81)
    told = [line.split(",")[0] for line in shown if columns == 30 or " left" in line]
    assert told[:5] == [f"{done}/6" for done in (1, 2, 3, 4, 5)]


def test_without_a_terminal_there_are_plain_lines_with_the_time_left(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(progress, "_LINES_PER_TIME", math.inf)
    outcome = cli("fit", "--config", "tiny.yaml", "--trainer.max_epochs=4")
    assert "\r" not in outcome.out + outcome.err
    lines = [line for line in outcome.out.splitlines() if line.startswith("iteration ")]
    assert [line.split(",")[0] for line in lines] == [f"iteration {done}/4" for done in (1, 2, 3, 4)]
    assert lines[0].endswith(" left")
    assert " left" not in lines[-1]


def test_a_long_run_tells_a_line_in_ten_seconds_and_more_rarely_later(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 5))
    monkeypatch.setattr("epo_lightning.run.progress.time.monotonic", lambda: float(next(clock)))
    train(small_module(), small_data(16), tmp_path, 300, callbacks=[progress.IterationProgress()],
          enable_progress_bar=True)  # fmt: skip
    told = [int(line.split()[1].split("/")[0]) for line in capsys.readouterr().out.splitlines()]
    pauses = [after - before for before, after in itertools.pairwise(told)]
    assert told[0] == 1
    assert told[-1] == 300
    assert 2 in pauses[:3]  # iterations of five seconds
    assert 5 <= max(pauses) <= 7  # after 1,500 seconds: one in thirty


def test_ones_own_bar_takes_the_place_of_ours_and_knows_the_numbers(cli: Cli) -> None:
    SEEN.clear()
    bar = f"--trainer.callbacks+={Watching.__module__}.Watching"
    outcome = cli("fit", "--config", "tiny.yaml", "--trainer.max_epochs=3", bar)
    assert outcome.code == 0, outcome.err
    assert "env steps," not in outcome.out
    assert [(each["at"], each["of"]) for each in SEEN] == [(1, 1)] * 3  # a batch is an iteration
    assert "return" not in SEEN[0]
    assert SEEN[2]["return"] < 0
    assert SEEN[2]["sps"] > 0


@pytest.mark.parametrize("name", ["TQDMProgressBar", "RichProgressBar"])
def test_bars_of_lightning_take_the_place_of_ours(cli: Cli, name: str) -> None:
    if name.startswith("Rich"):
        pytest.importorskip("rich")
    outcome = cli("fit", "--config", "tiny.yaml", f"--trainer.callbacks+=lightning.pytorch.callbacks.{name}")
    assert outcome.code == 0, outcome.err
    assert "env steps," not in outcome.out
    assert "Epoch 1" in outcome.out


@pytest.mark.parametrize("bar", [(), (f"--trainer.callbacks+={__name__}.Watching",)])
def test_switched_off_there_is_no_bar_at_all(cli: Cli, bar: tuple[str, ...]) -> None:
    SEEN.clear()
    outcome = cli("fit", "--config", "tiny.yaml", "--trainer.enable_progress_bar=false", *bar)
    assert outcome.code == 0, outcome.err
    assert "iteration 1/" not in outcome.out
    assert SEEN == []


def test_a_task_without_successes_shows_a_dash_and_one_that_has_them_their_number(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = []
    for env in (AgentReward, Succeeding):
        train(small_module(), small_data(16, env), tmp_path, 2, callbacks=[progress.IterationProgress()],
              enable_progress_bar=True)  # fmt: skip
        told.append(capsys.readouterr().out.splitlines()[-1])
    assert "return 0, successes -," in told[0]
    assert "return 0, successes 1," in told[1]
