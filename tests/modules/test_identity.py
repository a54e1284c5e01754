"""A network is not given a task, a population or weights that it was not made for."""

import json
from pathlib import Path

import pytest
import torch

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic import Probe
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.modules.identity import CHANGEABLE, identity, require_same_identity

MINE = identity(4, NetworkSettings(gene_dim=3), EnvSpec("Mine", 8, obs_dim=2, act_dim=3))


class Twin(Probe):
    """Another task with the sizes of the probe."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int = 3) -> None:
        super().__init__(num_envs, device, seed, max_steps=max_steps)
        self.spec = EnvSpec("Twin", num_envs, self.spec.obs_dim, self.spec.act_dim, max_steps)


TWIN = f"--data.env={__name__}.Twin"


def test_the_same_passes_whatever_the_number_of_environments() -> None:
    require_same_identity(MINE, identity(4, NetworkSettings(gene_dim=3), EnvSpec("Mine", 99, 2, 3)))


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"task": "Other"}, r"it has task Other, not Mine; leave data\.env to the checkpoint \(.*EnvSpec\.name: Other"),
        ({"observation size": 9}, r"it has observation size 9, not 2; leave data\.env to the checkpoint$"),
        ({"discrete actions": True}, r"it has discrete actions True, not False; leave data\.env"),
        ({"model.num_agents": 2}, r"it has model\.num_agents 2, not 4; leave model\.num_agents to the checkpoint$"),
        (
            {"model.network.activation": "relu"},
            r"it has model\.network\.activation relu, not elu; leave model\.network\.act",
        ),
        ({"model.network.obs_clip": 9.0}, r"it has model\.network\.obs_clip 9\.0, not 5\.0"),
    ],
)
def test_what_differs_is_named(theirs: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"^--ckpt_path does not match: {words}"):
        require_same_identity(MINE | theirs, MINE)


def test_what_may_differ_and_what_the_oldest_checkpoints_do_not_tell() -> None:
    require_same_identity(MINE | {"model.network.obs_clip": 9.0, "model.network.log_std_max": 1.0}, MINE, CHANGEABLE)
    require_same_identity({key: value for key, value in MINE.items() if key != "task"}, MINE)
    with pytest.raises(ValueError, match="action size None"):
        require_same_identity({key: value for key, value in MINE.items() if key != "action size"}, MINE)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "play", "view"])
def test_every_command_refuses_another_task_of_equal_sizes(cli, monkeypatch, command):
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    before = sorted(Path("run").rglob("*"))
    for module in ("require_viewer", "require_encoder"):
        monkeypatch.setattr(f"epo_lightning.cli.shows.{module}", lambda *port: None)
    outcome = cli(command, "--ckpt_path", "run", TWIN)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: --ckpt_path")
    assert "Twin" in outcome.err
    assert sorted(Path("run").rglob("*")) == before


def test_arguments_of_the_task_can_be_changed_for_an_evaluation(cli):
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    assert cli("validate", "--ckpt_path", "run", "--data.env.init_args.max_steps", "5").code == 0
    assert json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["length"]["mean"] == 5.0


def test_a_run_of_an_older_layout_is_evaluated_but_not_continued(cli):
    elites = "--trainer.callbacks=epo_lightning.callbacks.ElitePreservation"
    assert (
        cli("fit", "--config", "tiny.yaml", "--run_dir", "run", elites, "--trainer.callbacks.archive_size=1").code == 0
    )
    path = Path("run/checkpoints/last.ckpt")
    contents = torch.load(path, weights_only=True)
    del contents["epo"]["layout"]
    contents["callbacks"]["ElitePreservation"] = {"what": "it kept then"}
    torch.save(contents, path)
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 3)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: --ckpt_path was written by another version")
    assert cli("validate", "--ckpt_path", "run").code == 0


@pytest.mark.parametrize("command", ["validate", "test"])
@pytest.mark.parametrize("empty", [False, True])
def test_an_untrained_network_is_named_in_the_first_line(cli, command, empty):
    Path("null.yaml").write_text("ckpt_path: null")
    outcome = cli(command, "--config", "tiny.yaml", *(["--config", "null.yaml"] if empty else []))
    assert outcome.code == 0
    assert "of an untrained network," in outcome.out.splitlines()[0]
    assert not list(Path().rglob("*.json"))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "play"])
@pytest.mark.parametrize("path", ["run", "last", "nowhere.ckpt"])
def test_a_checkpoint_in_a_configuration_is_not_overlooked(cli, command, path):
    Path("file.yaml").write_text(f"ckpt_path: {path}")
    outcome = cli(command, "--config", "tiny.yaml", "--config", "file.yaml")
    assert outcome.code == 2
    assert outcome.err == (
        f"error: ckpt_path is not for configuration files: give --ckpt_path {path} on the command line\n"
    )


@pytest.mark.parametrize("command", ["fit", "validate", "play"])
def test_an_empty_checkpoint_is_not_no_checkpoint(cli, command):
    for args in (["--ckpt_path", ""], ["--ckpt_path="]):
        outcome = cli(command, "--config", "tiny.yaml", *args)
        assert outcome.code == 2
        assert outcome.err.startswith("error: ckpt_path is empty; ")


def test_a_flag_wins_over_null_in_a_configuration(cli):
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    Path("null.yaml").write_text("ckpt_path: null")
    outcome = cli("validate", "--ckpt_path", "run", "--config", "null.yaml")
    assert outcome.out.startswith("Probe: 8 episodes of the master of run/checkpoints/last.ckpt,")
