"""What needs the user's consent, who gives it, and whose mark stands for it."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Never

import pytest
import torch
import yaml

from epo_lightning.cli.arguments import CONFIGS, OF_WANDB
from epo_lightning.cli.trust import embedded_config
from epo_lightning.cli.trust.allowlist import findings
from epo_lightning.cli.trust.signature import is_signed, key_file, sign
from epo_lightning.documents.plain_yaml import dump
from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from epo_lightning.modules.contents import SIGNATURE as SIGNATURE_KEY
from tests.support.command_line import Cli
from tests.support.overlays import command_line
from tests.support.strangers import GENES, GYM, K_POINT, WORKER, forge, load, refused, save, spec

pytestmark = pytest.mark.usefixtures("evil_module")


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_a_stranger_who_names_our_classes_only_needs_no_consent(own: Cli, command: str) -> None:
    path = save(load())
    outcome = own(
        command, "--ckpt_path", path, "--run_dir", "new", *(["--trainer.max_epochs=2"] if command == "fit" else [])
    )
    assert outcome.code == 0, outcome.err
    assert "--trust" not in outcome.err


def test_a_stranger_who_names_our_classes_only_is_played(own: Cli) -> None:
    pytest.importorskip("imageio_ffmpeg")
    pendulum = ("--data.env", "epo_lightning.envs.classic.Pendulum")
    assert own("fit", "--config", "tiny.yaml", *pendulum, "--run_dir", "pendulum").code == 0
    save(load("pendulum/checkpoints/last.ckpt"))
    outcome = own("play", "--ckpt_path", "foreign.ckpt", "--seconds", "0.2")
    assert outcome.code == 0, outcome.err
    assert Path("foreign-0.mp4").exists()


def test_view_takes_the_same_way(own: Cli) -> None:
    pytest.importorskip("viser")
    assert "Probe has no physics" in own("view", "--ckpt_path", forge(), "--port", "0").err


class TestConsent:
    def run(self, cli: Cli) -> None:
        """A run of this user with an environment of the working folder."""
        assert cli("fit", "--config", "tiny.yaml", "--data.env", "mine.Mine", "--run_dir", "mine").code == 0

    def test_an_own_run_needs_none(self, own: Cli) -> None:
        self.run(own)
        assert own("fit", "--ckpt_path", "mine", "--trainer.max_epochs", 3).code == 0
        Path("mine").rename("moved")
        assert own("fit", "--ckpt_path", "moved", "--trainer.max_epochs", 4).code == 0
        assert own("validate", "--ckpt_path", "moved").code == 0

    def test_a_stranger_needs_it(self, own: Cli) -> None:
        self.run(own)
        sys.modules.pop("mine")
        save(load("mine/checkpoints/last.ckpt"))
        refused(own, "import mine.Mine", "--ckpt_path", "foreign.ckpt", commands=("fit", "validate"))
        assert "mine" not in sys.modules
        assert own("validate", "--ckpt_path", "foreign.ckpt", "--trust").code == 0

    def test_another_users_mark_does_not_count(self, own: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.run(own)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
        refused(own, "import mine.Mine", "--ckpt_path", "mine", commands=("fit",))
        assert own("fit", "--ckpt_path", "mine", "--trust", "--trainer.max_epochs", 3).code == 0
        assert own("fit", "--ckpt_path", "mine", "--trainer.max_epochs", 4).code == 0  # that was this user's own fit

    @pytest.mark.parametrize("mark", ["0" * 64, "", "\udcff", 3, b"x", torch.ones(3)])
    def test_a_forged_mark_does_not_count(self, own: Cli, mark: object) -> None:
        forge(("data.env", spec("evil.Env")), mark=mark)
        refused(own, "import evil.Env", "--ckpt_path", "foreign.ckpt", commands=("validate",))

    def test_the_mark_of_another_configuration_does_not_count(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env")), mark=load()[SIGNATURE_KEY])
        refused(own, "import evil.Env", "--ckpt_path", "foreign.ckpt", commands=("validate",))

    def test_the_same_command_line_may_give_it(self, own: Cli) -> None:
        self.run(own)
        path = save(load("mine/checkpoints/last.ckpt"))
        Path("again.yaml").write_text("data: {env: {class_path: mine.Mine, init_args: {max_steps: 3}}}")
        for given in (["--config", "again.yaml"], ["--data.env=mine.Mine"], ["--data.env", "{class_path: mine.Mine}"]):
            outcome = own("validate", "--ckpt_path", path, *given)
            assert outcome.code == 0, outcome.err
            assert outcome.err == "notice: data.env: as your command line has it, nothing of it from the checkpoint\n"
        more = ("--run_dir", "new", "--trainer.max_epochs", 3)
        outcome = own("fit", "--ckpt_path", path, "--config", "again.yaml", *more)
        assert outcome.code == 0, outcome.err
        assert "iteration 3/3" in outcome.out

    def test_what_the_user_gives_replaces_what_the_stranger_says(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env", max_steps=3)))
        assert own("validate", "--ckpt_path", "foreign.ckpt", "--config", "tiny.yaml").code == 0
        forge(("trainer.logger", spec("evil.Log", save_dir="elsewhere")))
        assert own("validate", "--ckpt_path", "foreign.ckpt", "--trainer.logger", "null").code == 0
        assert "evil" not in sys.modules

    def test_a_single_value_may_be_given(self, own: Cli) -> None:
        forge(("data.env", spec(GYM, id="evil:make", env_args={"x": {"y": "evil.make"}, "max_episode_steps": 5})))
        given = ("--data.env.init_args.id", "Pendulum-v1", "--ckpt_path", "foreign.ckpt")
        refused(own, "would set data.env.env_args.x.y to evil.make: ", *given, commands=("validate",))
        outcome = own("validate", *given, "--data.env.env_args.x.y", "1")
        assert "data.env.env_args.x.y, data.env.id: as your command line has it" in outcome.err
        assert "evil" not in sys.modules

    def test_a_part_is_not_the_whole(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env", max_steps=3)))
        part = ("--ckpt_path", "foreign.ckpt", "--data.env.init_args.max_steps", "4")
        refused(own, "import evil.Env", *part, commands=("validate",))
        Path("part.yaml").write_text("data: {env: {init_args: {max_steps: 4}}, num_envs: 16}")
        refused(own, "import evil.Env", "--ckpt_path", "foreign.ckpt", "--config", "part.yaml", commands=("validate",))
        forge(("data.env", spec(WORKER, python="./evil.sh", factory="mjlab")))
        part = ("--ckpt_path", "foreign.ckpt", "--data.env.init_args.factory", "mjlab")
        refused(own, "start ./evil.sh", *part, commands=("validate",))

    def test_consent_to_one_thing_is_not_consent_to_another(self, own: Cli) -> None:
        forge(("data.env", spec("evil.Env")), ("trainer.callbacks", [spec("evil.Spy")]))
        one = ("--ckpt_path", "foreign.ckpt", "--config", "tiny.yaml")
        refused(own, "would import evil.Spy: ", *one, commands=("validate",))

    def test_trust_is_no_key_of_a_file(self, own: Cli) -> None:
        Path("trust.yaml").write_text("trust: true")
        outcome = own("validate", "--ckpt_path", "own", "--config", "trust.yaml")
        assert outcome.code == 2
        words = "config: trust.yaml, line 1: trust is for the command line only"
        assert outcome.err.startswith(f"error: {words}")
        forge(("data.env", spec("evil.Env")))
        assert words in own("validate", "--ckpt_path", "foreign.ckpt", "--config", "trust.yaml").err
        assert "evil" not in sys.modules
        assert "trust" not in yaml.safe_load(Path("own/config.yaml").read_text())


class TestKey:
    def test_it_is_made_once_for_this_user_alone(self, own: Cli) -> None:
        assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
        key = key_file().read_bytes()
        assert own("fit", "--config", "tiny.yaml", "--run_dir", "other").code == 0
        assert key_file().read_bytes() == key
        assert list(key_file().parent.iterdir()) == [key_file()]

    def test_the_mark_is_of_the_text(self) -> None:
        mark = sign("a")
        assert is_signed("a", mark)
        assert not is_signed("b", mark)
        assert not is_signed("a", mark.upper())

    @pytest.mark.parametrize("damage", ["readable by others", "empty", "a link"])
    def test_a_key_that_others_may_know_counts_for_nothing(
        self, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mark = sign("a")
        key = key_file().read_bytes()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        key_file().parent.mkdir(parents=True)
        if damage == "a link":
            (tmp_path / "key").write_bytes(key)
            (tmp_path / "key").chmod(0o600)
            key_file().symlink_to(tmp_path / "key")
        else:
            key_file().write_bytes(b"" if damage == "empty" else key)
            key_file().chmod(0o600 if damage == "empty" else 0o644)
        assert not is_signed("a", mark)
        with pytest.raises(OSError, match=r"key|symbolic"):
            sign("a")

    def test_without_a_home_a_run_says_once_that_it_is_nobodys(
        self, own: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
        outcome = own("fit", "--config", "tiny.yaml", "--run_dir", "plain")
        assert (outcome.code, outcome.err.count("notice")) == (0, 0)  # these classes need no consent
        outcome = own("fit", "--config", "tiny.yaml", "--data.env", "mine.Mine", "--run_dir", "mine")
        assert outcome.code == 0
        assert outcome.err.count("notice: these checkpoints cannot be marked as yours") == 1
        assert SIGNATURE_KEY not in load("mine/checkpoints/last.ckpt")
        refused(own, "import mine.Mine", "--ckpt_path", "mine", commands=("fit",))
        assert own("fit", "--ckpt_path", "mine", "--trust", "--trainer.max_epochs", 3).code == 0


@pytest.mark.usefixtures("own")
def test_two_ranks_sign() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for args in (
        ["--config", "tiny.yaml", "--data.env", "mine.Mine", "--run_dir", "two"],
        ["--ckpt_path", "two", "--trainer.max_epochs", "3"],
    ):
        command = [sys.executable, "-m", "epo_lightning", "fit", *args, "--trainer.devices", "2"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment, check=False)
        assert result.returncode == 0, result.stderr
        checkpoint = load("two/checkpoints/last.ckpt")
        assert is_signed(checkpoint[CONFIG_KEY], checkpoint[SIGNATURE_KEY])


@pytest.mark.parametrize("name", sorted(file.stem for file in CONFIGS.glob("*.yaml") if file != OF_WANDB))
def test_packaged_configurations_need_no_consent(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Except for those that start another interpreter."""
    resolved = []

    def stop(text: str) -> Never:
        resolved.append(text)
        raise ValueError("enough")

    monkeypatch.setattr("epo_lightning.cli.invocation.signature_of", stop)
    args = command_line(name)
    with pytest.raises(ValueError, match="enough"):
        cli("fit", *args)
    config = embedded_config.parse(resolved[0], limited=True)
    needs = findings(config)
    assert [each.key for each in needs] == (["data.env"] if config["data"]["env"]["class_path"] == WORKER else [])
    assert embedded_config.parse(dump(config), limited=True) == config


@pytest.mark.parametrize("crossover", ["average", "uniform", "k_point", spec(K_POINT, points=3)])
def test_crossover_of_our_own_needs_no_consent(crossover: str | dict[str, Any]) -> None:
    assert findings({"trainer": {"callbacks": [spec(GENES, crossover=crossover)]}}) == []


def test_names_of_privileged_groups_need_no_consent() -> None:
    assert findings({"data": {"env": spec(GYM, id="Pendulum-v1", privileged=["robot.mass", "goal"])}}) == []
