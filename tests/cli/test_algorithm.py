"""One key chooses the algorithm, whose settings `model.*` then are; its checkpoints know it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.cli.algorithm import choose_algorithm, named_algorithm
from epo_lightning.cli.trust.signature import sign
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules import ALGORITHMS, algorithm_class, algorithm_name, contents
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.modules.identity import Identity
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import TINY, Cli, Outcome

OWN = ", ".join(ALGORITHMS)
"""The names of this package's own."""


class SoftModule(EPOModule):
    """A second algorithm, with a setting that the first does not have, and without one that it has.

    Args:
        num_agents: K.
        network: The network.
        optimizer: Adam.
        temperature: Only here.
    """

    def __init__(
        self,
        num_agents: int = 1,
        network: NetworkSettings = NetworkSettings(),  # noqa: B008
        optimizer: GeneOptimizerSettings = GeneOptimizerSettings(),  # noqa: B008
        temperature: float = 0.5,
    ) -> None:
        super().__init__(num_agents, network, LossSettings(), optimizer)
        self.temperature = temperature


SOFT = yaml.safe_dump(
    {
        "algorithm": "soft",
        **yaml.safe_load(TINY),
        "model": {"num_agents": 4, "network": {"gene_dim": 3, "hidden": [8]}, "temperature": 0.25},
    }
)


@pytest.fixture
def both(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line where there are two algorithms, and a `soft.yaml` beside `tiny.yaml`."""
    monkeypatch.setitem(ALGORITHMS, "soft", f"{__name__}.SoftModule")
    Path("soft.yaml").write_text(SOFT)
    return cli


def saved(path: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(read_checkpoint(Path(path, "checkpoints/last.ckpt"))[contents.CONFIG])
    assert config == yaml.safe_load(Path(path, "config.yaml").read_text())
    return config


def refused(outcome: Outcome, message: str) -> None:
    assert (outcome.code, outcome.err) == (2, f"error: {message}\n")
    assert not list(Path().rglob("*.csv"))


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_row_is_a_module_that_knows_its_name(name: str) -> None:
    module = algorithm_class(name)
    assert issubclass(module, PopulationModule)
    assert algorithm_name(module) == name


@pytest.mark.parametrize("given", [["--data.rollout.gamma=0.9"], ["--config", "old.yaml"]])
def test_a_setting_by_its_old_name_is_told_the_new_one(cli: Cli, given: list[str]) -> None:
    Path("old.yaml").write_text("data: {rollout: {gamma: 0.9}}")
    outcome = cli("fit", "--config", "tiny.yaml", *given)
    assert outcome.code == 2
    assert outcome.err.startswith("error: data.rollout")
    assert "is model.rollout" in outcome.err


class TestChoosing:
    def test_the_last_that_files_and_flags_say(self, tmp_path: Path) -> None:
        for name, text in (("a", "algorithm: first"), ("b", "algorithm: second"), ("c", "x: 1"), ("d", "{")):
            (tmp_path / name).write_text(text)
        a, b, c, d = (str(tmp_path / name) for name in "abcd")
        assert named_algorithm(["fit"]) is None
        assert named_algorithm(["fit", "-c", a, f"--config={b}", "--config", c]) == "second"
        with pytest.raises(ValueError, match=f"config: {d}, line 1: this is not YAML"):
            named_algorithm(["fit", "-c", a, f"--config={d}"])
        assert named_algorithm(["fit", "--algorithm", "x", "-c", c]) == "x"
        assert named_algorithm(["fit", "-c", a, "--algorithm=x", "--algorithm", "y"]) == "y"
        assert named_algorithm(["fit", "--algorithm=x", "-c", a]) == "first"  # as every flag before a file

    def test_a_checkpoints_own_counts_until_a_command_says_everything_itself(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ALGORITHMS, "soft", f"{__name__}.SoftModule")
        assert choose_algorithm(["fit"], None) == "epo"
        assert choose_algorithm(["validate"], "soft") == "soft"
        assert choose_algorithm(["fit", "--resume"], "soft") == "soft"
        assert choose_algorithm(["fit", "--resume", "--data.env", "X", "--algorithm=soft"], "soft") == "soft"
        with pytest.raises(ValueError, match="algorithm soft -> epo cannot change on resume"):
            choose_algorithm(["fit", "--resume", "--data.env", "X"], "soft")


class TestARun:
    def test_the_default_is_told_by_the_configuration_and_the_checkpoint(self, cli: Cli) -> None:
        assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
        assert saved("run")["algorithm"] == "epo"
        assert contents.identity_of(read_checkpoint(Path("run/checkpoints/last.ckpt"))).algorithm == "epo"

    def test_a_file_chooses(self, both: Cli) -> None:
        assert both("fit", "--config", "soft.yaml").code == 0
        (folder,) = Path("runs").glob("*/*")
        assert folder.parent.name == "soft"
        config = saved(str(folder))
        assert config["algorithm"] == "soft"
        assert config["model"]["temperature"] == 0.25
        assert "loss" not in config["model"]

    def test_a_base_chooses_and_a_flag_after_it_wins(self, both: Cli) -> None:
        Path("over.yaml").write_text("base: soft.yaml\nmodel: {temperature: 0.125}\n")
        assert both("fit", "--config", "over.yaml", "--run_dir", "run").code == 0
        assert saved("run")["algorithm"] == "soft"
        Path("bare.yaml").write_text(yaml.safe_dump({"algorithm": "soft", "data": yaml.safe_load(TINY)["data"]}))
        Path("plain.yaml").write_text("trainer: {accelerator: cpu, devices: 1, max_epochs: 1}\n")
        sizes = ("--model.num_agents=4", "--model.network.hidden=[8]", "--run_dir=again")
        args = ("fit", "--config", "bare.yaml", "--config", "plain.yaml", *sizes)
        assert both(*args, "--algorithm", "epo").code == 0
        assert saved("again")["algorithm"] == "epo"

    def test_a_flag_chooses_and_stands_in_the_name_of_the_run(self, both: Cli) -> None:
        Path("mine.yaml").write_text(SOFT.replace("algorithm: soft\n", ""))
        assert both("fit", "--config", "mine.yaml", "--algorithm", "soft").code == 0
        assert [folder.name for folder in Path("runs").iterdir()] == ["mine-soft"]

    @pytest.mark.parametrize("args", [("--algorithm", "soft", "--help"), ("--help", "--algorithm=soft")])
    def test_help_is_that_algorithms(
        self, both: Cli, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
    ) -> None:
        with pytest.raises(SystemExit):
            both("fit", *args)
        text = capsys.readouterr().out
        assert "--model.temperature TEMPERATURE\n" in text
        assert "--model.loss" not in text
        assert f"--algorithm {{{OWN.replace(', ', ',')},soft}}" in text
        with pytest.raises(SystemExit):
            both("fit", "--help")
        text = capsys.readouterr().out
        assert "--model.temperature" not in text
        assert "--model.loss.clip_eps" in text


class TestACheckpoint:
    @pytest.fixture
    def run(self, both: Cli) -> Cli:
        assert both("fit", "--config", "soft.yaml", "--run_dir", "run").code == 0
        return both

    @pytest.mark.parametrize("command", ["validate", "test"])
    def test_is_evaluated_by_its_own(self, run: Cli, command: str) -> None:
        outcome = run(command, "--ckpt_path", "run", "--data.eval_seeds=1")
        assert outcome.code == 0, outcome.err
        assert "of run/checkpoints/last.ckpt" in outcome.out

    def test_is_played_by_its_own(self, run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("epo_lightning.cli.shows.require_encoder", lambda: None)
        films = []
        monkeypatch.setattr("epo_lightning.cli.shows.record", lambda playback, *rest: films.append(playback.labels))
        outcome = run("play", "--ckpt_path", "run", "--agents", "0,2", "--out", "a.mp4")
        assert outcome.code == 0, outcome.err
        assert films == [["master", "follower 2"]]

    @pytest.mark.parametrize("args", [(), ("--algorithm", "soft"), ("--model.temperature=0.75",)])
    def test_goes_on_with_its_own(self, run: Cli, args: tuple[str, ...]) -> None:
        outcome = run("fit", "--ckpt_path", "run", "--trainer.max_epochs=3", *args)
        assert outcome.code == 0, outcome.err
        assert saved("run")["algorithm"] == "soft"
        assert "algorithm" not in outcome.out

    def test_goes_on_by_the_command_that_began_it(self, run: Cli) -> None:
        outcome = run("fit", "--config", "soft.yaml", "--run_dir", "run", "--resume", "--trainer.max_epochs=3")
        assert outcome.code == 0, outcome.err
        assert "Changed on resume: algorithm" not in outcome.out

    @pytest.mark.parametrize("command", ["fit", "validate", "test", "play", "view"])
    @pytest.mark.parametrize("args", [("--algorithm=epo",), ("--config", "epo.yaml")])
    def test_does_not_become_one_of_another(self, run: Cli, command: str, args: tuple[str, ...]) -> None:
        Path("epo.yaml").write_text("algorithm: epo")
        outcome = run(command, "--ckpt_path", "run", *args)
        assert outcome.code == 2
        assert outcome.err == (
            "error: --ckpt_path: algorithm soft -> epo cannot change on resume, the checkpoint's weights are made for"
            " it; leave it to the checkpoint, or start a new run\n"
        )

    @pytest.mark.parametrize("signed", [True, False])
    def test_of_before_there_were_several_is_of_the_first(self, both: Cli, signed: bool) -> None:
        assert both("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
        path = Path("run/checkpoints/last.ckpt")
        checkpoint = torch.load(path, weights_only=True)
        config = yaml.safe_load(checkpoint[contents.CONFIG])
        del config["algorithm"]
        config["data"]["rollout"] = config["model"].pop("rollout")  # where it stood then
        checkpoint[contents.CONFIG] = yaml.safe_dump(config)
        checkpoint[contents.SIGNATURE] = sign(checkpoint[contents.CONFIG]) if signed else None
        torch.save(checkpoint, path)
        assert both("validate", "--ckpt_path", "run").code == 0
        outcome = both("fit", "--ckpt_path", "run", "--trainer.max_epochs=3")
        assert outcome.code == 0, outcome.err
        assert [line for line in outcome.out.splitlines() if line.startswith("Changed")] == [
            "Changed on resume: trainer.max_epochs 2 -> 3"
        ]
        assert saved("run")["algorithm"] == "epo"

    def test_of_an_algorithm_that_is_not_there(self, run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(ALGORITHMS, "soft")
        outcome = run("validate", "--ckpt_path", "run")
        assert outcome.code == 2
        assert outcome.err == (
            f"error: ckpt_path: run/checkpoints/last.ckpt was trained by the algorithm soft; this version has {OWN}\n"
        )


class TestMistakes:
    def test_an_unknown_algorithm(self, both: Cli) -> None:
        message = f"algorithm must be one of {OWN}, soft, or a class path; got 'ppo'"
        refused(both("fit", "--config", "tiny.yaml", "--algorithm", "ppo"), message)
        Path("ppo.yaml").write_text("algorithm: ppo")
        refused(both("fit", "--config", "tiny.yaml", "--config=ppo.yaml"), message)
        Path("list.yaml").write_text("algorithm: [epo]")
        refused(
            both("fit", "--config", "list.yaml"),
            f"algorithm must be one of {OWN}, soft, or a class path; got \"['epo']\"",
        )

    @pytest.mark.parametrize(
        ("config", "arg", "message"),
        [
            (
                "soft",
                "--model.loss.clip_eps=0.1",
                "model.loss.clip_eps is a setting of the algorithm epo, and this one is soft: leave it out, or choose"
                " by --algorithm epo",
            ),
            (
                "tiny",
                "--model.temperature=0.1",
                "model.temperature is a setting of the algorithm soft, and this one is epo: leave it out, or choose by"
                " --algorithm soft",
            ),
        ],
    )
    def test_a_setting_of_another(self, both: Cli, config: str, arg: str, message: str) -> None:
        refused(both("fit", "--config", f"{config}.yaml", arg), message)
        refused(both("fit", "--config", f"{config}.yaml", *arg.split("=")), message)
        value: Any = 0.1
        for name in reversed(arg.partition("=")[0].removeprefix("--").split(".")):
            value = {name: value}
        Path("over.yaml").write_text(yaml.safe_dump(value))
        refused(both("fit", "--config", f"{config}.yaml", "--config", "over.yaml"), message)

    def test_a_setting_of_nobody(self, both: Cli) -> None:
        outcome = both("fit", "--config", "soft.yaml", "--model.hot=1")
        assert (outcome.code, outcome.err) == (2, "error: fit: --model.hot is not a flag\n")

    def test_an_option_is_written_out(self, both: Cli) -> None:
        outcome = both("fit", "--config", "soft.yaml", "--algo=soft")
        assert (outcome.code, outcome.err) == (2, "error: fit: --algo is not a flag\n")


Theirs = Callable[..., str]


class TestAStranger:
    @pytest.fixture
    def theirs(self, both: Cli) -> Theirs:
        """Makes a checkpoint of somebody else whose configuration says something, and whose identity may, too."""
        assert both("fit", "--config", "soft.yaml", "--run_dir", "run").code == 0
        checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)

        def make(said: object, identity: object = "soft") -> str:
            config = {**yaml.safe_load(checkpoint[contents.CONFIG]), "algorithm": said}
            told = {**checkpoint[contents.IDENTITY], "algorithm": identity}
            torch.save(
                {**checkpoint, contents.CONFIG: yaml.safe_dump(config), contents.IDENTITY: told,
                 contents.SIGNATURE: None}, "theirs.ckpt",
            )  # fmt: skip
            return "theirs.ckpt"

        return make

    def test_may_name_an_algorithm_of_the_table(self, both: Cli, theirs: Theirs) -> None:
        outcome = both("validate", "--ckpt_path", theirs("soft"))
        assert outcome.code == 0, outcome.err

    @pytest.mark.parametrize(
        "said",
        ["os.system", f"{__name__}.SoftModule", "epo_lightning.modules.epo.EPOModule", "EPO", "", 1, None, ["epo"]],
    )
    def test_may_say_nothing_else(self, both: Cli, theirs: Theirs, said: int | list[str] | str | None) -> None:
        outcome = both("validate", "--ckpt_path", theirs(said))
        assert outcome.code == 2
        assert "is none of your own runs, and its configuration would set algorithm to" in outcome.err
        assert both("validate", "--trust", "--ckpt_path", theirs(said)).code == 2

    @pytest.mark.parametrize(
        ("said", "identity", "words"),
        [
            ("epo", "soft", "its configuration and its weights have another algorithm: it is damaged"),
            ("soft", "os.system", f"was trained by the algorithm os.system; this version has {OWN}, soft"),
            ("soft", ["soft"], "was trained by the algorithm"),
        ],
    )
    def test_tells_the_same_twice(
        self, both: Cli, theirs: Theirs, said: str, identity: list[str] | str, words: str
    ) -> None:
        outcome = both("validate", "--ckpt_path", theirs(said, identity))
        assert outcome.code == 2
        assert words in outcome.err
        assert outcome.err.count("\n") == 1


def test_an_identity_of_the_oldest_checkpoints_is_of_epo() -> None:
    sizes = {"observation size": 2, "action size": 3, "discrete actions": False, "model.num_agents": 4}
    assert contents.identity_of({"epo": sizes}) == Identity("epo", "", 2, 3, False, {"num_agents": 4})
