"""`export`: a run becomes a folder that acts alike without torch, whatever trained it, or one line says why not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from epo_lightning import Run
from epo_lightning.cli.entry import main
from epo_lightning.export import formats, parity
from epo_runtime import Policy
from tests.support.command_line import TINY, TINY_CEM_RL, TINY_PQL, TINY_SAC, Cli, refused

ROOT = Path(__file__).parents[2]
TINY_PBT = f"algorithm: pbt\n{TINY.replace('gene_dim: 3, ', '')}"
MAZE = ("--config=wall_maze", "--data.num_envs=256", "--trainer.max_epochs=3", "--trainer.accelerator=cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny population's run."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    words = ["fit", f"--config={folder / 'tiny.yaml'}", f"--run_dir={folder / 'run'}", "--seed_everything=3"]
    assert main(words) == 0
    return folder / "run"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_becomes_a_folder(cli: Cli, run: Path) -> None:
    outcome = cli("export", run)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines()[0].startswith(f"{run / 'policy'}: Probe, master, onnx, ")
    assert outcome.out.splitlines()[1].endswith(" in 4000 steps of play (1332 episodes, 4 agents)")
    assert names(run / "policy") == ["parity.json", "policy.onnx", "policy.yaml"]
    assert not [name for name in names(run) if name.startswith(".")]
    told = json.loads((run / "policy" / "parity.json").read_text())
    assert (told["steps"], told["agents"], told["refused_above"]) == (4000, [0, 1, 2, 3], 1e-5)
    assert 0 <= told["largest_difference"] <= 1e-5
    whole = yaml.safe_load((run / "policy" / "policy.yaml").read_text())
    assert whole["observation"]["entries"] == [{"name": "observation", "size": whole["observation"]["size"]}]
    assert len(whole["observation"]["scaling"]["mean"]) == whole["observation"]["size"]
    assert (whole["action"]["low"], whole["action"]["high"]) == (-1.0, 1.0)
    assert np.shape(whole["population"]["genes"]) == (4, 3)
    source = whole["provenance"]
    assert (source["algorithm"], source["seed"], source["env_steps"], source["iterations"]) == ("epo", 3, 128, 2)
    assert source["run"] == "run"
    assert source["env"]["class_path"] == "epo_lightning.envs.classic.Probe"
    assert source["trained_by"]["version"] == source["exported_by"]["versions"]["epo_lightning"]
    assert str(run.parent) not in (run / "policy" / "policy.yaml").read_text()


def test_the_folder_acts_as_the_run_and_another_agent_may_be_its_own(cli: Cli, run: Path) -> None:
    obs = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    outcome = cli("export", run, "--agent", 2, "--out", "out")
    assert outcome.code == 0, outcome.err
    expected = Run(run).policy(2).act(obs)
    np.testing.assert_allclose(Policy.load("out").act(obs), expected, atol=1e-5)
    np.testing.assert_allclose(Policy.load("out", agent=0).act(obs), Run(run).policy(0).act(obs), atol=1e-5)


def test_python_exports_as_the_command_line(cli: Cli, run: Path) -> None:
    assert Run(run).export("mine", format="torchscript", agent=1) == Path("mine")
    assert cli("export", run, "--format=torchscript", "--agent=1", "--out=theirs").code == 0
    assert names(Path("mine")) == names(Path("theirs")) == ["parity.json", "policy.pt", "policy.yaml"]
    mine, theirs = (json.loads(Path(name, "parity.json").read_text()) for name in ("mine", "theirs"))
    assert mine == theirs


@pytest.mark.parametrize(
    ("config", "words", "agents"),
    [
        (TINY_SAC, ["--format=torchscript"], [0]),
        (TINY_PQL, ["--format=torch_export"], [0]),
        (TINY_CEM_RL, ["--format=torchscript", "--agent=all"], [0, 1, 2, 3, 4]),
        (TINY_PBT, ["--agent=all"], None),
    ],
    ids=["sac", "pql", "cem_rl", "pbt"],
)
def test_every_algorithm_can_be_exported(cli: Cli, config: str, words: list[str], agents: list[int] | None) -> None:
    Path("config.yaml").write_text(config)
    assert cli("fit", "--config=config.yaml", "--run_dir=run", "--trainer.max_epochs=1").code == 0
    outcome = cli("export", "run", *words)
    assert outcome.code == 0, outcome.err
    told = json.loads(Path("run/policy/parity.json").read_text())
    assert told["largest_difference"] <= 1e-5
    if agents is not None:
        assert told["agents"] == agents
    else:  # the champion goes first
        whole = yaml.safe_load(Path("run/policy/policy.yaml").read_text())["population"]
        assert told["agents"][0] == whole["default"] == whole["master"]
        assert sorted(told["agents"]) == [0, 1, 2, 3]
        assert whole["input"] == "agent"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--opset=17"], "--opset must be 18 to 23, got 17"),
        (["--format=keras"], "format must be onnx, torchscript or torch_export; got keras"),
        (["--agent=4"], "--agent: there is no agent 4; they are 0 to 3"),
        (["--agent=best"], "--agent must be a number, or all; got best"),
        (["--out=taken"], "--out: taken holds thesis.tex, which is no part of an export"),
        (["--out=taken/thesis.tex"], "--out: taken/thesis.tex is no folder"),
        (["--data.env=Pendulum"], "--ckpt_path does not match: its task is Probe, not Pendulum"),
        (["--data.env.init_args.obs_dim=7"], "obs_dim"),
        (["--agnet=1"], "--agnet is not a flag (did you mean --agent?)"),
        (["another"], "another means nothing here"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(cli: Cli, run: Path, words: list[str], said: str) -> None:
    Path("taken").mkdir()
    Path("taken/thesis.tex").write_text("")
    before = sorted(map(str, Path().rglob("*")))
    refused(cli("export", run, *(["--out=out"] if "--out" not in words[0] else []), *words), said)
    assert sorted(map(str, Path().rglob("*"))) == before


def test_a_run_that_cannot_be_used_is_one_line(cli: Cli, run: Path) -> None:
    refused(cli("export"), "export: name a run folder or a checkpoint: epo-lightning export RUN")
    refused(cli("export", "nowhere"), "nowhere does not exist")
    Path("unsaved").mkdir()
    Path("unsaved/config.yaml").write_bytes((run / "config.yaml").read_bytes())
    refused(cli("export", "unsaved"), "that run never saved; begin it anew")
    refused(cli("export", "unsaved/config.yaml"), "ckpt_path: unsaved/config.yaml cannot be read")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=False)
    checkpoint["state_dict"]["policy.action_head.weight"][0, 0] = float("nan")
    torch.save(checkpoint, "diverged.ckpt")
    refused(cli("export", "diverged.ckpt"), "diverged.ckpt cannot be used", "not finite; take an older checkpoint")


def test_an_export_that_acts_otherwise_is_refused_and_the_older_one_stays(
    cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", run, "--format=torchscript", "--out=out")
    assert cli(*words).code == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    monkeypatch.setattr(parity, "LARGEST", -1.0)
    refused(cli(*words), "export: the file acts unlike the run", "nothing was written")
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    assert not list(Path().glob(".*"))


def test_without_its_packages_it_says_what_to_install(cli: Cli, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    refused(cli("export", run, "--out=out"), "needs onnx and onnxscript and onnxruntime", "epo-lightning[export]")
    assert not Path("out").exists()


def test_the_wall_maze_without_torch_gets_the_return_of_validate(cli: Cli) -> None:
    outcome = cli("fit", *MAZE, "--run_dir=run")
    assert outcome.code == 0, outcome.err
    assert cli("export", "run").code == 0
    example = ROOT / "examples" / "wall_maze_without_torch.py"
    code = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['epo_lightning'] = None;"
        f"sys.argv = ['x', 'run/policy', '--episodes', '1024']; runpy.run_path({str(example)!r}, run_name='__main__')"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    words = done.stdout.replace(",", "").split()
    mean, error = float(words[1]), float(words[4])
    validated = Run("run").evaluate({"data.eval_episodes": 1024})["return"]
    assert abs(mean - validated.mean) < 3 * (error**2 + validated.standard_error**2) ** 0.5
    assert error < 0.2  # so that it says something
