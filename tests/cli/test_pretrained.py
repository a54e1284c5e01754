"""`--pretrained NAME`: a policy that comes with the package in every command, and a run that begins with one."""

import json
import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from epo_lightning import pretrained, train
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.record import beginning_of
from tests.support.command_line import Cli

NAMES = ("cartpole", "pendulum", "quickstart", "regrasp", "regrasp_cube", "wall_maze")
SMALL = {"quickstart": {"data.num_envs": 256, "model.rollout.num_minibatches": 4}, "wall_maze": {"data.num_envs": 64}}
FLAGS = [f"--{key}={value}" for key, value in SMALL["quickstart"].items()]


class Catch(L.Callback):
    """Keeps what a training begins with."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.state = {name: value.clone() for name, value in pl_module.state_dict().items()}


def test_the_command_lists_them_and_tells_the_card_of_one(cli: Cli) -> None:
    listed = cli("pretrained")
    assert listed.code == 0
    for name in NAMES:
        assert re.search(rf"^{name} +{re.escape(pretrained.card(name)['title'])}$", listed.out, re.MULTILINE)
    card = cli("pretrained", "quickstart")
    assert (card.code, card.out.splitlines()[0][:9]) == (0, 'title: "A')
    assert "command: epo-lightning fit --config quickstart --seed_everything=0\n" in card.out
    wrong = cli("pretrained", "wal_maze")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    assert "(did you mean wall_maze?)" in wrong.err


LONG = ("regrasp", "regrasp_cube")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in NAMES])
def test_validate_reproduces_the_evaluation_of_the_card(cli: Cli, name: str) -> None:
    outcome = cli("validate", "--pretrained", name)
    assert outcome.code == 0, outcome.err
    told = json.loads(Path(f"{name}.evaluation.json").read_text())  # here, not in the package
    assert not list(pretrained.POLICIES.glob("*.json"))
    wanted = pretrained.card(name)["evaluation"]
    low, high = wanted["return"]["interval"]
    rounding = 1e-4 + 1e-4 * abs(wanted["return"]["mean"])
    assert low - rounding <= told["return"]["mean"] <= high + rounding
    assert (told["episodes"], told["task"]) == (wanted["episodes"], pretrained.card(name)["task"]["name"])


def test_play_films_it_in_a_fresh_folder(cli: Cli) -> None:
    pytest.importorskip("imageio_ffmpeg")
    outcome = cli("play", "--pretrained=quickstart", "--seconds=1", "--width=96", "--height=96")
    assert outcome.code == 0, outcome.err
    assert Path("quickstart-0.mp4").stat().st_size > 0


def test_a_file_says_it_as_the_flag_does(cli: Cli) -> None:
    Path("named.yaml").write_text("pretrained: 'wall_maze'\ndata: {eval_episodes: 4, eval_envs: 4}\n")
    outcome = cli("validate", "--config", "named.yaml")
    assert (outcome.code, "WallMaze: 4 episodes" in outcome.out) == (0, True)
    assert Path("wall_maze.evaluation.json").exists()
    assert cli("validate", "--config", "named.yaml", "--pretrained=null", "--config=tiny.yaml").out.startswith(
        "Probe: "
    )


def test_export_writes_it_where_the_command_runs(cli: Cli) -> None:
    outcome = cli("export", "--pretrained", "wall_maze", "--format", "torchscript")
    assert outcome.code == 0, outcome.err
    assert {"policy.yaml", "parity.json"} <= {file.name for file in Path("policy").iterdir()}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_begins_with_exactly_its_weights_and_has_a_folder_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catch = Catch()
    settings: dict[str, Any] = {"trainer.max_epochs": 1, "trainer.accelerator": "cpu", **SMALL.get(name, {})}
    run = train(pretrained=name, settings=settings, callbacks=catch, seed=7)
    saved = read_checkpoint(pretrained.find(name))["state_dict"]
    assert catch.state.keys() == saved.keys()
    assert all(torch.equal(catch.state[key], saved[key]) for key in saved)
    assert run.folder.parent.name.startswith(f"from_{name}")
    assert list(run.metrics["charts/iteration"]) == [1]  # it counts from its own beginning
    last = read_checkpoint(run.last)
    assert "pretrained" not in last["epo_config"]
    if name == "quickstart":
        assert not torch.equal(last["state_dict"]["policy.genes"], saved["policy.genes"])  # and goes on from there


def test_a_run_that_was_cut_goes_on_with_its_own_weights(cli: Cli) -> None:
    begin = ("fit", "--pretrained", "quickstart", "--trainer.accelerator=cpu", *FLAGS)
    assert cli(*begin, "--trainer.max_epochs=2", "--run_dir=whole").code == 0
    first = cli(*begin, "--trainer.max_epochs=1", "--run_dir=cut", "--resume")
    assert (first.code, "Begins with the weights of quickstart" in first.out) == (0, True)
    second = cli(*begin, "--trainer.max_epochs=2", "--run_dir=cut", "--resume")
    assert (second.code, "Begins with" in second.out) == (0, False)
    for run in ("whole", "cut"):
        assert beginning_of(Path(run, "run.json")) == "quickstart"
    whole, cut = (read_checkpoint(Path(each, "checkpoints", "last.ckpt"))["state_dict"] for each in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("play", "--pretrained", "quickstrat"), r"--pretrained: no policy .* \(did you mean quickstart\?\)"),
        (("fit", "--pretrained", "zebra"), r"zebra; there are cartpole, .*wall_maze"),
        (("fit", "--pretrained"), "--pretrained needs the name of a policy: cartpole"),
        (("fit", "--pretrained", "--trainer.max_epochs", "1"), "--pretrained needs the name of a policy"),
        (("fit", "--pretrained=quickstart", "--ckpt_path=last"), "--pretrained and --ckpt_path name a policy each"),
        (("export", "some/run", "--pretrained", "quickstart"), "--pretrained and --ckpt_path name a policy each"),
        (("fit", "--ckpt_path", "pretrained:quickstart"), "without the state of its training.* fit --pretrained"),
        (
            ("fit", "--pretrained", "quickstart", "--model.num_agents", "8"),
            "--pretrained quickstart does not match: it has model.num_agents 32, not 8; .* to the policy",
        ),
        (("fit", "--pretrained", "wall_maze", "--config", "tiny.yaml"), "--pretrained wall_maze does not match"),
        (
            ("fit", "--pretrained", "quickstart", "--algorithm", "sac"),
            "--pretrained: that policy is of the algorithm epo, not sac",
        ),
        (("fit", "--config", "with.yaml"), "--pretrained: no policy .* quickstar .did you mean quickstart"),
        (("sweep", "study.yaml", "--dry-run"), "a configuration names a policy .pretrained., but every run of a study"),
        (("sweep", "inside.yaml", "--dry-run"), "pretrained.*begins by itself"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_leaves_nothing(cli: Cli, args: tuple[str, ...], words: str) -> None:
    Path("with.yaml").write_text("pretrained: quickstar\nbase: tiny.yaml\n")
    Path("named.yaml").write_text("pretrained: quickstart\n")
    Path("study.yaml").write_text("methods: {a: {config: [tiny.yaml, named.yaml]}}\nseeds: 1\n")
    Path("inside.yaml").write_text("methods: {a: {config: tiny.yaml}}\nseeds: 1\ngrid: {pretrained: [quickstart]}\n")
    outcome = cli(*args)
    assert outcome.code == 2
    error = outcome.err.splitlines()[-1]
    assert re.search(words, error), error
    assert not list(Path().glob("runs/*/*"))
