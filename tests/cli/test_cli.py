"""The command line as a user meets it, in process."""

import json
from pathlib import Path

import pytest
import yaml

from epo_lightning import __version__
from epo_lightning.cli.arguments import CONFIGS, resolve, run_name
from epo_lightning.cli.process_settings import keep_freed_memory
from tests.support.command_line import Cli, Rows


def only_run(root: Path = Path("runs")) -> Path:
    (config,) = root.glob("**/config.yaml")
    return config.parent


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"epo-lightning {__version__}\n"


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_every_parameter_has_help(cli: Cli, capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli(command, "--help")
    assert end.value.code == 0
    text = capsys.readouterr().out
    for section in ("--model.", "--data.", "--checkpoint.", "--trainer.", "--run_dir", "--seed_everything"):
        lines = text.split("\n  " + section)[1:]
        assert lines, section
        for option in lines:
            described = option.split("(type:")[0].split()
            assert len(described) > 2 or ".help" in option or "CONFIG" in option, section + option[:80]


def test_fit_leaves_a_run_folder_and_says_how_to_continue(cli: Cli, rows: Rows) -> None:
    outcome = cli("fit", "--config", "tiny.yaml")
    assert outcome.code == 0
    folder = only_run()
    assert folder.parent == Path("runs/tiny")
    assert folder.name.endswith("-seed0")
    assert (folder / "checkpoints/last.ckpt").exists()
    assert (folder / "checkpoints/best.ckpt").exists()
    assert [row["charts/env_steps"] for row in rows(folder)] == ["64", "128"]
    start = f"Probe: 1 rank(s) x 16 envs = 16 envs, 4 agent(s), device cpu, run folder {folder}\n"
    assert start in outcome.out
    assert f"python -m epo_lightning fit --ckpt_path {folder}/checkpoints/last.ckpt" in outcome.out
    assert "iteration 1/2, 64 env steps" in outcome.out
    assert "iteration 2/2, 128 env steps" in outcome.out


def test_the_same_command_twice_makes_two_runs(cli: Cli) -> None:
    for _ in range(2):
        assert cli("fit", "--config", "tiny.yaml").code == 0
    first, second = sorted(config.parent for config in Path("runs").glob("**/config.yaml"))
    assert (first / "config.yaml").read_text() == (second / "config.yaml").read_text()


def test_the_saved_configuration_repeats_the_run(cli: Cli, rows: Rows) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "a", "--seed_everything", "3").code == 0
    assert cli("fit", "--config", "a/config.yaml", "--run_dir", "b").code == 0
    assert rows(Path("a")) == rows(Path("b"))
    assert yaml.safe_load(Path("b/config.yaml").read_text())["seed_everything"] == 3


def test_overlays_and_sweep_flags_override_in_order(cli: Cli) -> None:
    Path("overlay.yaml").write_text("model: {loss: {clip_eps: 0.3, entropy_scale: 0.01}}\n")
    outcome = cli(
        "fit",
        "--config=tiny.yaml",
        "--config=overlay.yaml",
        "--model.loss.clip_eps=0.1",
        "--model.optimizer.learning_rate=1e-4",
        "--model.network.hidden=[4,4]",
        "--seed_everything=7",
    )
    assert outcome.code == 0
    assert only_run().parent.name == "tiny-overlay"
    config = yaml.safe_load((only_run() / "config.yaml").read_text())
    assert config["model"]["loss"]["clip_eps"] == 0.1
    assert config["model"]["loss"]["entropy_scale"] == 0.01
    assert config["model"]["optimizer"]["learning_rate"] == 1e-4
    assert config["model"]["network"]["hidden"] == [4, 4]
    assert config["model"]["network"]["gene_dim"] == 3


def test_packaged_configurations_are_found_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epo_lightning.cli.arguments.CONFIGS", tmp_path)
    (tmp_path / "known.yaml").write_text("{}")
    path = str(tmp_path / "known.yaml")
    assert resolve(["fit", "--config", "known"]) == ["fit", "--config", path]
    assert resolve(["fit", "--config=known", "-c", path]) == ["fit", f"--config={path}", "-c", path]
    assert run_name(["fit", "--config", "known", "--config", path]) == "known-known"
    with pytest.raises(ValueError, match=r"nothing is neither a file nor one of the packaged configurations: known$"):
        resolve(["fit", "--config", "nothing"])
    with pytest.raises(ValueError, match=r"the packaged configurations \(did you mean known\?\)$"):
        resolve(["fit", "--config", "knwon"])


def test_a_configuration_comes_after_its_bases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epo_lightning.cli.arguments.CONFIGS", tmp_path / "packaged")
    (tmp_path / "packaged").mkdir()
    for name, base in (
        ("packaged/ground", None),
        ("packaged/middle", "ground"),
        ("mine", "middle"),
        ("beside", "mine.yaml"),
    ):
        (tmp_path / f"{name}.yaml").write_text(f"base: {base}\n" if base else "model: {num_agents: 2}\n")
    ground, middle, mine, beside = (
        tmp_path / f"{n}.yaml" for n in ("packaged/ground", "packaged/middle", "mine", "beside")
    )
    bases = [f"--config={path}" for path in (ground, middle, mine)]
    assert resolve(["fit", "--seed_everything=1", "--config", str(beside), "--config=ground"]) == [
        "fit", "--seed_everything=1", *bases, "--config", str(beside), f"--config={ground}"
    ]  # fmt: skip
    assert resolve(["fit", f"--config={beside}"]) == ["fit", *bases, f"--config={beside}"]
    both = tmp_path / "both.yaml"
    both.write_text("base: [mine.yaml, ground]\n")
    assert resolve(["fit", "-c", str(both)]) == ["fit", *bases, f"--config={ground}", "-c", str(both)]


def test_a_base_is_overlaid_and_does_not_name_the_run(cli: Cli) -> None:
    Path("overlay.yaml").write_text("base: tiny.yaml\nmodel: {loss: {clip_eps: 0.3}}\n")
    assert cli("fit", "--config", "overlay.yaml").code == 0
    assert only_run().parent.name == "overlay"
    config = yaml.safe_load((only_run() / "config.yaml").read_text())
    assert config["model"]["loss"]["clip_eps"] == 0.3
    assert config["data"]["num_envs"] == 16
    assert "base" not in config


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": "base: nowhere"}, "base of a.yaml: nowhere is neither a file nor one of the packaged configurations"),
        ({"a": "base: a.yaml"}, "base of a.yaml: a.yaml is that file itself, or overlays it"),
        ({"a": "base: b.yaml", "b": "base: a.yaml"}, "base of b.yaml: a.yaml is that file itself, or overlays it"),
        (
            {"a": "base: [tiny.yaml, 3]"},
            "base of a.yaml must be names of configurations or files; got ['tiny.yaml', 3]",
        ),
    ],
)
def test_a_bad_base_is_one_line(cli: Cli, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        Path(f"{name}.yaml").write_text(text)
    outcome = cli("fit", "--config", "a.yaml")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {message}")
    assert outcome.err.count("\n") == 1


def test_base_is_not_a_flag(cli: Cli) -> None:
    assert "base is a key of configuration files" in cli("fit", "--base", "tiny.yaml").err


def test_configurations_are_inside_the_package() -> None:
    assert CONFIGS.is_dir()


def test_validate_needs_only_a_checkpoint(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    files = sorted(Path("run").rglob("*"))
    outcome = cli("validate", "--ckpt_path", "run/checkpoints/last.ckpt")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith("Probe: 8 episodes of the master of run/checkpoints/last.ckpt")
    assert [line.split()[0] for line in lines[2:5]] == ["return", "length", "successes"]
    written = json.loads(Path("run/checkpoints/last.evaluation.json").read_text())
    assert written["length"] == {"mean": 3.0, "standard_error": 0.0, "seed_means": [3.0], "seed_error": None}
    assert written["env"]["class_path"] == "epo_lightning.envs.classic.Probe"
    assert written["seeds"] == [0]
    assert written["return"]["mean"] == pytest.approx(float(lines[2].split()[1]), rel=1e-4)
    assert written["episodes"] == 8
    assert sorted(Path("run").rglob("*")) == sorted([*files, Path("run/checkpoints/last.evaluation.json")])


def test_test_plays_the_same_episodes_for_every_run(cli: Cli) -> None:
    results = []
    for seed in (3, 4):
        assert cli("fit", "--config", "tiny.yaml", "--run_dir", f"run{seed}", f"--seed_everything={seed}").code == 0
        outcome = cli("test", "--ckpt_path", f"run{seed}", "--data.eval_episodes", "12", "--data.eval_seeds", "3")
        assert "Probe: 36 episodes of the master" in outcome.out
        assert ", 3 seeds\n" in outcome.out
        assert "error over seeds" in outcome.out.splitlines()[1]
        results.append(json.loads(Path(f"run{seed}/checkpoints/last.test.json").read_text()))
    for result in results:
        assert result["seeds"] == [0, 1, 2]
        assert result["difficulty"] == {}
        assert len(result["return"]["seed_means"]) == 3
        assert result["return"]["mean"] == pytest.approx(sum(result["return"]["seed_means"]) / 3)
    cli("test", "--ckpt_path", "run4", "--data.eval_episodes", "12", "--data.eval_seeds", "3", "--seed_everything=9")
    again = json.loads(Path("run4/checkpoints/last.test.json").read_text())
    assert again == results[1]


def test_a_difficulty_that_the_task_does_not_have(cli: Cli) -> None:
    outcome = cli("test", "--config", "tiny.yaml", "--data.eval_difficulty.tolerance=0.1")
    assert outcome.code == 2
    assert outcome.err == "error: data.eval_difficulty: Probe has none to set; got tolerance\n"


def test_one_episode_has_no_standard_error(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    assert cli("validate", "--ckpt_path", "best", "--run_dir", "run", "--data.eval_envs=1", "--data.eval_episodes=1")
    written = json.loads(Path("run/checkpoints/best.evaluation.json").read_text())
    assert written["length"] == {"mean": 3.0, "standard_error": None, "seed_means": [3.0], "seed_error": None}


def test_the_allocator_takes_the_settings_or_is_left_alone() -> None:
    assert keep_freed_memory() in (True, False)


def test_validate_without_a_checkpoint_plays_the_untrained_network(cli: Cli) -> None:
    outcome = cli("validate", "--config", "tiny.yaml")
    assert outcome.code == 0
    assert "untrained" in outcome.out
    assert not list(Path().rglob("*.json"))


def test_time_limit_ends_at_the_end_of_an_iteration(cli: Cli, rows: Rows) -> None:
    outcome = cli("fit", "--config", "tiny.yaml", "--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:01")
    assert outcome.code == 0
    assert f"iteration {len(rows(only_run()))}: checkpoints/last.ckpt" in outcome.out


@pytest.mark.parametrize(("logger", "pattern"), [("TensorBoardLogger", "lightning_logs/**/events*")])
def test_other_loggers_write_into_the_run_folder_beside_the_csv(cli: Cli, logger: str, pattern: str) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--trainer.logger", logger, "--trainer.logger.save_dir", ".").code == 0
    assert list(only_run().glob(pattern))
    assert (only_run() / "metrics.csv").exists()


def test_weights_and_biases_works_offline(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert cli("fit", "--config", "tiny.yaml", "--trainer.logger", "WandbLogger").code == 0
    import wandb

    wandb.finish()
    wandb.teardown()  # of this process: the next test has another mode
    assert list(only_run().glob("wandb/offline-run-*/*.wandb"))
