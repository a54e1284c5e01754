"""A network is not given a task, a population or weights that it was not made for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic import Probe
from epo_lightning.learner.observations import Group
from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.modules.identity import Identity, require_same_identity
from tests.support.command_line import Cli

MINE = Identity("epo", "Mine", obs_dim=2, act_dim=3, discrete=False, model={"num_agents": 4, "network.gene_dim": 3})


class Twin(Probe):
    """Another task with the sizes of the probe."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int = 3) -> None:
        super().__init__(num_envs, device, seed, max_steps=max_steps)
        self.spec = EnvSpec("Twin", num_envs, self.spec.obs_dim, self.spec.act_dim, max_steps)


TWIN = f"--data.env={__name__}.Twin"


def test_the_same_passes_whatever_the_number_of_environments() -> None:
    few, many = (Identity.of("epo", EnvSpec("Mine", envs, 2, 3), MINE.model) for envs in (8, 99))
    assert few == many == MINE
    require_same_identity(few, many)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ({"algorithm": "sac"}, r"it was trained by the algorithm sac, not epo; leave algorithm to the checkpoint$"),
        ({"task": "Other"}, r"its task is Other, not Mine; leave data\.env to the checkpoint \(.*EnvSpec\.name: Other"),
        ({"obs_dim": 9}, r"its obs_dim is 9, not 2; leave data\.env to the checkpoint$"),
        ({"discrete": True}, r"its discrete is True, not False; leave data\.env"),
        ({"num_agents": 2}, r"it has model\.num_agents 2, not 4; leave model\.num_agents to the checkpoint$"),
        ({"network.gene_dim": 5}, r"it has model\.network\.gene_dim 5, not 3"),
        ({"network.width": 2}, r"it has model\.network\.width 2, not None"),
    ],
)
def test_what_differs_is_named(theirs: dict[str, Any], words: str) -> None:
    own = {name: theirs[name] for name in theirs if hasattr(MINE, name)}
    other = replace(MINE, **own) if own else replace(MINE, model={**MINE.model, **theirs})
    with pytest.raises(Mistake, match=f"^--ckpt_path does not match: {words}"):
        require_same_identity(other, MINE)


def test_what_may_differ() -> None:
    other = replace(MINE, model={**MINE.model, "network.gene_dim": 5})
    require_same_identity(other, MINE, ["network.gene_dim"])
    with pytest.raises(Mistake, match=r"model\.network\.gene_dim"):
        require_same_identity(other, MINE, ["network.width"])


def test_a_checkpoint_tells_it_and_older_ones_tell_it_in_other_words() -> None:
    assert contents.identity_of({"identity": MINE.as_dict()}) == MINE
    old = {"task": "Mine", "observation size": 2, "action size": 3, "discrete actions": False, "layout": 2}
    assert contents.identity_of({"epo": {**old, "model.num_agents": 4, "model.network.gene_dim": 3}}) == MINE
    lists = {**MINE.as_dict(), "model": {"network.hidden": [8, 4]}}
    assert contents.identity_of({"identity": lists}).model == {"network.hidden": (8, 4)}


@pytest.mark.parametrize("told", [None, 3, {}, {"algorithm": "epo"}, {**MINE.as_dict(), "model": 3}, {"what": 1}])
def test_a_checkpoint_that_does_not_tell_is_refused(told: object) -> None:
    for checkpoint in ({}, {"identity": told}):
        with pytest.raises(Mistake, match="does not say for which network"):
            contents.identity_of(checkpoint)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "play", "view", "export"])
def test_every_command_refuses_another_task_of_equal_sizes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    before = sorted(Path("run").rglob("*"))
    for module in ("require_viewer", "require_encoder"):
        monkeypatch.setattr(f"epo_lightning.cli.shows.{module}", lambda *port: None)
    outcome = cli(command, "--ckpt_path", "run", TWIN)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: --ckpt_path")
    assert "Twin" in outcome.err
    assert sorted(Path("run").rglob("*")) == before


def test_arguments_of_the_task_can_be_changed_for_an_evaluation(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    assert cli("validate", "--ckpt_path", "run", "--data.env.init_args.max_steps", "5").code == 0
    assert json.loads(Path("run/checkpoints/last.evaluation.json").read_text())["length"]["mean"] == 5.0


def test_a_run_of_an_older_layout_is_evaluated_but_not_continued(cli: Cli) -> None:
    elites = "--trainer.callbacks=epo_lightning.callbacks.ElitePreservation"
    assert (
        cli("fit", "--config", "tiny.yaml", "--run_dir", "run", elites, "--trainer.callbacks.archive_size=1").code == 0
    )
    path = Path("run/checkpoints/last.ckpt")
    content = torch.load(path, weights_only=True)
    content["layout"] -= 1
    content["callbacks"]["ElitePreservation"] = {"what": "it kept then"}
    torch.save(content, path)
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 3)
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("error: --ckpt_path was written by another version")
    assert cli("validate", "--ckpt_path", "run").code == 0


@pytest.mark.parametrize("command", ["validate", "test"])
@pytest.mark.parametrize("empty", [False, True])
def test_an_untrained_network_is_named_in_the_first_line(cli: Cli, command: str, empty: bool) -> None:
    Path("null.yaml").write_text("ckpt_path: null")
    outcome = cli(command, "--config", "tiny.yaml", *(["--config", "null.yaml"] if empty else []))
    assert outcome.code == 0
    assert "of an untrained network," in outcome.out.splitlines()[0]
    assert not list(Path().rglob("*.json"))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "play"])
@pytest.mark.parametrize("path", ["run", "last", "nowhere.ckpt"])
def test_a_checkpoint_in_a_configuration_is_that_of_the_flag(cli: Cli, command: str, path: str) -> None:
    Path("file.yaml").write_text(f"ckpt_path: {path}")
    outcome = cli(command, "--config", "tiny.yaml", "--config", "file.yaml")
    assert outcome.code == 2  # there is none
    assert outcome.err.startswith("error: ckpt_path: ")
    assert outcome.err == cli(command, "--config", "tiny.yaml", "--ckpt_path", path).err


@pytest.mark.parametrize("command", ["fit", "validate", "play"])
def test_an_empty_checkpoint_is_not_no_checkpoint(cli: Cli, command: str) -> None:
    for args in (["--ckpt_path", ""], ["--ckpt_path="]):
        outcome = cli(command, "--config", "tiny.yaml", *args)
        assert outcome.code == 2
        assert outcome.err.startswith("error: ckpt_path is empty; ")


def test_a_flag_after_null_in_a_configuration_wins(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", "--run_dir", "run").code == 0
    Path("null.yaml").write_text("ckpt_path: null")
    outcome = cli("validate", "--config", "null.yaml", "--ckpt_path", "run")
    assert outcome.out.startswith("Probe: 8 episodes of the master of run/checkpoints/last.ckpt,")


SEEN = (Group("pose", 1), Group("eye", (1, 1, 1)))


def test_groups_survive_a_file_and_are_compared_by_name_size_and_who_sees_them() -> None:
    mine = replace(MINE, groups=SEEN)
    stored = json.loads(json.dumps(mine.as_dict()))  # lists for tuples, as some loaders have it
    assert contents.identity_of({"identity": stored}) == mine
    other = replace(MINE, groups=(SEEN[0], Group("eye", (1, 1, 1), privileged=True)))
    words = (
        r"its observation is pose 1, eye 1 x 1 x 1, not pose 1, eye 1 x 1 x 1 \(privileged\); leave data\.env to the"
    )
    with pytest.raises(Mistake, match=words):
        require_same_identity(mine, other)


def test_what_was_written_before_vectors_had_names_fits_where_nothing_is_privileged_nor_an_image() -> None:
    require_same_identity(MINE, replace(MINE, groups=(Group("pose", 1), Group("goal", 1))))
    for group in (SEEN[1], Group("goal", 1, privileged=True)):
        with pytest.raises(Mistake, match="its observation is one vector without a name, not pose 1, "):
            require_same_identity(MINE, replace(MINE, groups=(SEEN[0], group)))


def test_an_encoder_is_compared_where_there_are_images() -> None:
    older = dict(MINE.model)
    newer = {**older, "network.image_features": 9}
    require_same_identity(replace(MINE, model=older), replace(MINE, model=newer))
    with pytest.raises(Mistake, match=r"it has model\.network\.image_features None, not 9"):
        require_same_identity(replace(MINE, model=older, groups=SEEN), replace(MINE, model=newer, groups=SEEN))


@pytest.mark.parametrize(
    "groups",
    [
        3,
        [3],
        [{"name": "a"}],
        [{"name": "a", "shape": 9, "privileged": False}],
        [{"name": 1, "shape": 2, "privileged": False}],
    ],
)
def test_groups_that_make_no_observation_are_refused(groups: object) -> None:
    with pytest.raises(Mistake, match="does not say for which network"):
        contents.identity_of({"identity": {**MINE.as_dict(), "groups": groups}})
