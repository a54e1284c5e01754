"""Soft actor-critic on the command line: every command, every callback, and every mistake in one line."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from epo_lightning.modules import contents
from epo_lightning.run import run_checkpoints
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import TINY_SAC, Cli, Rows, refused
from tests.support.films import labels_of_films
from tests.support.sameness import assert_same, final_state

FIRST = ("fit", "--config", "sac.yaml", "--run_dir", "run")
ON = ("fit", "--ckpt_path", "run", "--trainer.max_epochs")
CALLBACKS = "epo_lightning.callbacks"


@pytest.fixture
def sac(cli: Cli) -> Cli:
    """The command line in a folder with a `sac.yaml`."""
    Path("sac.yaml").write_text(TINY_SAC)
    return cli


def said(out: str) -> list[str]:
    prefix = "Changed on resume: "
    lines = [line.removeprefix(prefix) for line in out.splitlines() if line.startswith(prefix)]
    return [line for line in lines if not line.startswith("trainer.max_epochs")]


class TestCommands:
    def test_fit_validate_and_test(self, sac: Cli, rows: Rows) -> None:
        assert sac(*FIRST).code == 0
        assert [row["charts/env_steps"] for row in rows(Path("run"))] == ["64", "128", "192"]
        for command in ("validate", "test"):
            outcome = sac(command, "--ckpt_path", "run", "--data.eval_seeds=1")
            assert outcome.code == 0, outcome.err
            assert "of run/checkpoints/last.ckpt" in outcome.out
        assert sac("report", "run", "--metric", "losses/critic_loss", "--out", "page").code == 0
        assert "losses/critic_loss" in Path("page/report.html").read_text()

    def test_play_films_the_agent(self, sac: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        assert sac(*FIRST).code == 0
        films = labels_of_films(monkeypatch)
        outcome = sac("play", "--ckpt_path", "run", "--policy", "random", "--out", "a.mp4")
        assert outcome.code == 0, outcome.err
        assert films == [["master", "random"]]
        refused(sac("play", "--ckpt_path", "run", "--agents", "0,1", "--out", "a.mp4"), "agents", "1")

    @pytest.mark.parametrize("again", [("--ckpt_path", "parts"), ("--config", "sac.yaml", "--resume")], ids=str)
    def test_five_iterations_are_two_and_three(self, sac: Cli, rows: Rows, again: tuple[str, ...]) -> None:
        # a ring of 6 steps is full after the second iteration: what is overwritten and drawn next must be the same
        size = "--model.replay.capacity_per_env=6"
        assert sac("fit", "--config", "sac.yaml", "--run_dir", "whole", "--trainer.max_epochs=5", size).code == 0
        assert sac("fit", "--config", "sac.yaml", "--run_dir", "parts", "--trainer.max_epochs=2", size).code == 0
        torch.manual_seed(99)  # whatever the new process starts with
        outcome = sac("fit", *again, "--run_dir", "parts", "--trainer.max_epochs=5", size)
        assert outcome.code == 0, outcome.err
        whole, parts = final_state("whole"), final_state("parts")
        assert whole["ranks"][0]["replay"]["rows"].shape == (6, 16, 2 * 2 + 2 + 2)
        assert_same(whole, parts)
        assert rows(Path("whole")) == rows(Path("parts"))

    def test_one_environment_is_enough(self, sac: Cli) -> None:
        outcome = sac(*FIRST, "--data.num_envs=1")
        assert outcome.code == 0, outcome.err
        weights = read_checkpoint(Path("run/checkpoints/last.ckpt"))["state_dict"]
        assert all(torch.isfinite(value).all() for value in weights.values())


class TestCallbacks:
    def test_the_guard_and_the_profiler(self, sac: Cli) -> None:
        names = [f"{CALLBACKS}.NaNGuard", f"{CALLBACKS}.NetworkScaleProfiler"]
        overlay = {"trainer": {"callbacks": [{"class_path": name} for name in names]}}
        Path("over.yaml").write_text(yaml.safe_dump(overlay))
        outcome = sac(*FIRST, "--config", "over.yaml")
        assert outcome.code == 0, outcome.err
        profile = yaml.safe_load(Path("run/profile.json").read_text())
        assert profile["parameters"] == (2 * 8 + 8) + 2 * 8 + (8 * 4 + 4)  # the actor: a layer, its norm, its head
        assert profile["experience_mib"] == 4 * 20 * 16 * (2 * 2 + 2 + 2) / 2**20
        refused(
            sac("fit", "--config", "sac.yaml", "--config", "over.yaml", "--model.optimizer.learning_rate=1e30"),
            "not finite",
            "Lower model.optimizer.learning_rate or model.optimizer.max_grad_norm",
        )

    def test_the_recorder(self, sac: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("epo_lightning.callbacks.video.require_encoder", lambda: None)
        monkeypatch.setattr("epo_lightning.callbacks.video.compose", lambda *rest: None)
        films: list[Any] = []
        monkeypatch.setattr("epo_lightning.callbacks.video.record", lambda playback, *rest: films.append(playback))
        recorder = (f"--trainer.callbacks={CALLBACKS}.VideoRecorder", "--trainer.callbacks.every_n_env_steps=128")
        outcome = sac(*FIRST, *recorder)
        assert outcome.code == 0, outcome.err
        assert [playback.labels for playback in films] == [["master"]]

    @pytest.mark.parametrize("name", ["GeneticEvolution", "ElitePreservation"])
    def test_who_selects_among_followers_is_refused(self, sac: Cli, name: str) -> None:
        outcome = sac(*FIRST, f"--trainer.callbacks={CALLBACKS}.{name}")
        refused(outcome, f"trainer.callbacks {name}", "the algorithm sac has none", "--algorithm", "epo")
        assert not Path("run").exists()


MISTAKES = {
    "discrete actions": (
        ["--data.env=epo_lightning.envs.gymnasium.GymnasiumEnv", "--data.env.init_args.id=CartPole-v1"],
        ["data.env: CartPole-v1 has discrete actions", "choose by --algorithm another one, such as epo"],
    ),
    "more than the memory": (
        ["--model.replay.capacity_per_env=1_000_000_000_000"],
        ["model.replay.capacity_per_env 1000000000000 needs", "MiB are free", "lower it to at most"],
    ),
    "minibatches that are more than the memory": (
        ["--model.replay.batch_size=1_000_000_000_000"],
        ["model.replay.batch_size 1000000000000 needs", "MiB are free", "lower it to at most"],
    ),
    "more updates than the memory has room for": (
        ["--model.optimizer.updates_per_step=1_000_000_000_000"],
        ["model.optimizer.updates_per_step 1000000000000 needs", "lower it to at most"],
    ),
    "an iteration that is more than the memory": (
        ["--model.replay.horizon=1_000_000_000_000"],
        ["model.replay.horizon 1000000000000 needs", "lower it to at most"],
    ),
    "an actor that never learns": (
        ["--model.optimizer.actor_every=9"],
        ["model.optimizer.actor_every (of the updates in an iteration) must be at least 1 and at most 8, got 9"],
    ),
    "several agents": (
        ["--model.num_agents=4"],
        ["model.num_agents is a setting of the algorithm epo, and this one is sac: leave it out"],
    ),
    "no environments": (["--data.num_envs=0"], ["data.num_envs must be at least 1"]),
    "no layer": (["--model.network.actor=[0]"], ["model.network.actor must be at least 1"]),
    "values upside down": (["--model.network.value_max=-30"], ["model.network.value_max must be greater than -20"]),
    "no such bootstrap": (["--model.loss.bootstrap=max"], ["model.loss.bootstrap"]),
    "more entropy than there is": (["--model.loss.target_entropy=1"], ["model.loss.target_entropy"]),
    "somebody else's settings": (
        ["--model.rollout.gamma=0.9"],
        ["model.rollout.gamma is a setting of the algorithm epo"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(sac: Cli, mistake: str) -> None:
    args, words = MISTAKES[mistake]
    refused(sac(*FIRST, *args), *words)
    assert not Path("run").exists()


class TestOn:
    """What is given together with a checkpoint."""

    @pytest.fixture
    def run(self, sac: Cli) -> Cli:
        assert sac(*FIRST).code == 0
        return sac

    @pytest.mark.parametrize(
        "change",
        [
            "network.actor=[9]", "network.critic=[9]", "network.activation=elu", "network.layer_norm=false",
            "network.atoms=null", "network.value_min=-30.0", "network.value_max=30.0", "network.log_std_min=-4.0",
        ],
    )  # fmt: skip
    def test_what_the_weights_are_made_for_stays(self, run: Cli, change: str) -> None:
        before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
        key, _, value = change.partition("=")
        refused(
            run(*ON, 4, f"--model.{change}"),
            f"--ckpt_path: model.{key} ",
            value,
            "the checkpoint's weights are made for it",
        )
        assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("network.obs_clip=2.0", "network.obs_clip 5.0 -> 2.0"),
            ("loss.gamma=0.9", "loss.gamma 0.97 -> 0.9"),
            ("loss.temperature=0.5", "loss.temperature 0.001 -> 0.5 (matters only where a run begins)"),
            ("optimizer.learning_rate=1e-5", "optimizer.learning_rate 0.0003 -> 1e-05"),
            ("optimizer.updates_per_step=3", "optimizer.updates_per_step 2 -> 3"),
            ("replay.batch_size=8", "replay.batch_size 16 -> 8"),
            ("replay.warmup=6", "replay.warmup 5 -> 6 (matters only until something is learnt)"),
            ("replay.horizon=3", "replay.horizon 4 -> 3"),
            ("replay.capacity_per_env=7", "replay.capacity_per_env 20 -> 7"),
            ("replay.capacity_per_env=30", "replay.capacity_per_env 20 -> 30"),
        ],
    )
    def test_everything_else_is_applied_and_told(self, run: Cli, rows: Rows, change: str, told: str) -> None:
        outcome = run(*ON, 4, f"--model.{change}")
        assert outcome.code == 0, outcome.err
        assert said(outcome.out) == [f"model.{told}"]
        assert len(rows(Path("run"))) == 4
        assert run(*ON, 5).code == 0

    @pytest.mark.parametrize("command", ["fit", "validate", "test", "play"])
    def test_a_checkpoint_of_each_is_refused_to_the_other(self, run: Cli, command: str) -> None:
        assert run("fit", "--config", "tiny.yaml", "--run_dir", "evolved").code == 0
        for folder, other, change in (("run", "epo", "sac -> epo"), ("evolved", "sac", "epo -> sac")):
            outcome = run(command, "--ckpt_path", folder, "--algorithm", other)
            refused(outcome, f"algorithm {change} cannot change on resume", "leave it to the checkpoint")

    def test_of_a_stranger(self, run: Cli) -> None:
        checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
        config = yaml.safe_load(checkpoint[contents.CONFIG])

        def theirs(**loss: Any) -> str:
            said = {**config, "model": {**config["model"], **loss}}
            torch.save({**checkpoint, contents.CONFIG: yaml.safe_dump(said), contents.SIGNATURE: None}, "theirs.ckpt")
            return "theirs.ckpt"

        assert run("validate", "--ckpt_path", theirs()).code == 0
        Path("secret.yaml").write_text("capacity_per_env: 3\n")
        refused(run("validate", "--ckpt_path", theirs(replay="secret.yaml")), "no keys and values under model.replay")
        evil = {"class_path": "os.system"}
        for group, value in (("loss", {"bootstrap": evil}), ("replay", {"horizon": "secret.yaml"})):
            refused(
                run("validate", "--ckpt_path", theirs(**{group: value})), "is none of your own runs", f"model.{group}"
            )


class TestReplayInCheckpoints:
    def test_a_new_best_waits_for_a_due_save_where_the_replay_is_large(
        self, sac: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        saved = {}
        for name, limit in (("light", 2**28), ("heavy", 0)):
            monkeypatch.setattr(run_checkpoints, "_HEAVY", limit)
            args = ("--checkpoint.every_n_iterations=4", "--trainer.max_epochs=6")
            assert sac("fit", "--config", "sac.yaml", "--run_dir", name, *args).code == 0
            best = read_checkpoint(Path(name, "checkpoints/best.ckpt"))["callbacks"]["RunCheckpoints"]
            saved[name] = best["best_iteration"]
        assert saved["light"] not in (4, 6)  # which are due; the last one always is
        assert saved["heavy"] in (4, 6)

    def test_a_checkpoint_is_as_large_as_what_is_remembered(self, sac: Cli) -> None:
        assert sac(*FIRST, "--model.replay.capacity_per_env=100000").code == 0
        remembered = 4 * 12 * 16 * (2 * 2 + 2 + 2)  # three iterations of four steps
        assert remembered < Path("run/checkpoints/last.ckpt").stat().st_size < remembered + 60_000
