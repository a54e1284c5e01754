"""`lineage.jsonl` and `genes.npy`: they are the folder's; a checkpoint says how many generations there were."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from epo_lightning.callbacks import GeneticEvolution
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.agent_reward import AgentReward
from tests.support.command_line import Cli
from tests.support.training import evolution, fit, small_data, small_module

EVOLVING = "trainer: {callbacks: [{class_path: epo_lightning.callbacks.GeneticEvolution, init_args: {%s}}]}"
SETTINGS = "every_n_env_steps: 64, warmup_env_steps: 64, num_elites: 1, spread_threshold: 0.0"


@pytest.fixture
def begun(cli: Cli) -> list[dict[str, Any]]:
    """The generations of four iterations in the folder `a`."""
    Path("evolving.yaml").write_text(EVOLVING % SETTINGS)
    outcome = cli(
        "fit", "--config", "tiny.yaml", "--config", "evolving.yaml", "--run_dir", "a", "--trainer.max_epochs", 4
    )
    assert outcome.code == 0, outcome.err
    made = generations("a")
    assert len(made) > 1
    return made


def generations(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "lineage.jsonl").read_text().splitlines()]


def genes(folder: str) -> np.ndarray:
    rows: np.ndarray = np.load(Path(folder, "genes.npy"), allow_pickle=False)
    return rows


def test_a_checkpoint_does_not_grow_with_the_generations(tmp_path: Path) -> None:
    def size(iterations: int) -> tuple[int, int]:
        callback, folder = evolution(), tmp_path / str(iterations)
        trainer = fit(small_module(), small_data(16, AgentReward), folder, iterations, callbacks=[callback])
        trainer.save_checkpoint(folder / "last.ckpt")
        return callback.lineage.count, (folder / "last.ckpt").stat().st_size

    (few, small), (many, large) = size(2), size(40)
    assert (few, many) == (2, 40)
    assert large - small < 256  # numbers that have more digits; one generation would be more


def test_it_goes_on_in_another_folder_with_all_of_them(cli: Cli, begun: list[dict[str, Any]]) -> None:
    before = genes("a")
    assert cli("fit", "--ckpt_path", "a", "--run_dir", "b", "--trainer.max_epochs", 6).code == 0
    after = generations("b")
    assert after[: len(begun)] == begun
    assert [record["generation"] for record in after] == [*range(1, len(begun) + 3)]
    assert genes("b").shape[0] == len(after) + 1
    assert np.array_equal(genes("b")[: len(before)], before)
    assert generations("a") == begun


def test_where_its_folder_is_gone_it_says_so_and_goes_on(
    cli: Cli, begun: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy("a/checkpoints/last.ckpt", "alone.ckpt")
    shutil.rmtree("a")
    outcome = cli("fit", "--ckpt_path", "alone.ckpt", "--run_dir", "b", "--trainer.max_epochs", 6)
    assert outcome.code == 0, outcome.err
    known = len(begun)
    assert f"{known} of the {known} generations of this run are not there" in caplog.text
    assert [record["generation"] for record in generations("b")] == [known + 1, known + 2]
    assert np.isnan(genes("b")[: known + 1]).all()
    outcome = cli("fit", "--ckpt_path", "b", "--trainer.max_epochs", 7)
    assert [record["generation"] for record in generations("b")] == [known + 1, known + 2, known + 3]


@pytest.mark.parametrize(
    "damage", ["no json\n", "[1]\n", '{"generation": "x"}\n', '{"generation": 1e999}\n', "\u00ff\n"]
)
def test_what_is_no_generation_is_dropped(cli: Cli, begun: list[dict[str, Any]], damage: str) -> None:
    path = Path("a/lineage.jsonl")
    path.write_text(damage + path.read_text())
    Path("a/genes.npy").write_bytes(b"\x93NUMPY half a file")
    outcome = cli("fit", "--ckpt_path", "a", "--trainer.max_epochs", 5)
    assert outcome.code == 0, outcome.err
    assert generations("a")[: len(begun)] == begun
    assert len(generations("a")) == len(begun) + 1
    assert len(genes("a")) == len(begun) + 2


def test_a_checkpoint_from_when_they_lay_in_it(tmp_path: Path) -> None:
    """It held every record, and the genes."""
    first = evolution()
    fit(small_module(), small_data(16, AgentReward), tmp_path / "a", 2, callbacks=[first])
    old = {name: value for name, value in first.state_dict().items() if name != "generations"}
    old |= {"lineage": first.lineage.records, "genes": torch.from_numpy(genes(str(tmp_path / "a")))}
    second = evolution()
    second.load_state_dict(old)
    fit(small_module(), small_data(16, AgentReward), tmp_path / "b", 1, callbacks=[second])
    assert generations(str(tmp_path / "b"))[:2] == first.lineage.records
    assert [record["generation"] for record in generations(str(tmp_path / "b"))] == [1, 2, 3]
    assert np.array_equal(genes(str(tmp_path / "b"))[:3], genes(str(tmp_path / "a")))


def test_a_checkpoint_says_how_many(begun: list[dict[str, Any]]) -> None:
    state = read_checkpoint(Path("a/checkpoints/last.ckpt"))["callbacks"]
    (own,) = [value for key, value in state.items() if key.startswith(GeneticEvolution.__name__)]
    assert own["generations"] == len(begun)
    assert own.keys() == {"generations", "adoptions", "spread", "generator"}
