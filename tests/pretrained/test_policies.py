"""The policies that come with the package are data, small, and as their cards say."""

import stat

import pytest
import torch

from epo_lightning import Policy, pretrained
from epo_lightning.cli.trust.allowlist import findings
from epo_lightning.cli.trust.embedded_config import parse
from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.run.checkpoint import fingerprint, read_checkpoint

NAMES = ("cartpole", "pendulum", "quickstart", "regrasp", "regrasp_cube", "two_arm_reach", "wall_maze")
MOST_BYTES = 1_600_000
CARD = {"title", "task", "made", "curve", "evaluation", "limits", "checkpoint"}
MADE = {"command", "algorithm", "agents", "seed", "commit", "started", "versions", "device", "env_steps", "iterations"}


def test_each_is_a_checkpoint_and_a_card_and_there_is_nothing_else() -> None:
    assert pretrained.names() == list(NAMES)
    files = {file.name: file for file in pretrained.POLICIES.iterdir()}
    assert set(files) == {f"{name}.{kind}" for name in NAMES for kind in ("ckpt", "yaml")}
    assert not [name for name, file in files.items() if stat.S_IMODE(file.stat().st_mode) & 0o111]
    assert sum(file.stat().st_size for file in files.values()) < MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_names_no_code_but_this_packages_own_and_holds_no_ones_mark(name: str) -> None:
    path = pretrained.find(name)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
    checkpoint = read_checkpoint(path)
    assert not {contents.SIGNATURE, "optimizer_states", "callbacks", "loops"} & set(checkpoint)
    text = checkpoint[contents.CONFIG]
    assert findings(parse(text, limited=True)) == []
    assert not [word for word in ("/tmp", "/home", "/root", "/work") if word in text]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_complete_and_tells_of_its_checkpoint(name: str) -> None:
    card, path = pretrained.card(name), pretrained.find(name)
    checkpoint = read_checkpoint(path)
    identity, config = contents.identity_of(checkpoint), parse(checkpoint[contents.CONFIG], limited=True)
    assert set(card) == CARD
    assert set(card["made"]) >= MADE
    assert all(isinstance(card[key], str) and len(card[key]) > 20 for key in ("title", "limits"))
    assert card["checkpoint"] == {"file": path.name, "bytes": path.stat().st_size, "id": fingerprint(path)}
    assert card["task"] == {"name": identity.task, "env": config["data"]["env"]}
    made, curve, evaluation = card["made"], card["curve"], card["evaluation"]
    assert made["command"].startswith(("epo-lightning fit --config ", "epo-lightning fit --pretrained "))
    assert f" --seed_everything={config['seed_everything']}" in made["command"]
    assert (made["algorithm"], made["seed"]) == (identity.algorithm, config["seed_everything"])
    assert made["agents"] == identity.model.get("num_agents", 1)
    assert len(made["commit"]) == 40
    assert (made["env_steps"], made["iterations"]) == (contents.env_steps_of(checkpoint), checkpoint["epoch"] + 1)
    assert len(curve["env_steps"]) == len(curve["return"]) >= 4
    assert curve["env_steps"] == sorted(curve["env_steps"])
    assert curve["env_steps"][-1] <= made["env_steps"]
    low, high = evaluation["return"]["interval"]
    assert low <= evaluation["return"]["mean"] <= high
    assert high - low == pytest.approx(2 * 1.96 * evaluation["return"]["standard_error"], abs=1e-3)
    assert evaluation["command"] == f"epo-lightning validate --pretrained {name}"
    assert evaluation["episodes"] >= 100


@pytest.mark.parametrize("name", NAMES)
def test_it_acts_on_one_observation_and_on_many(name: str) -> None:
    policy = Policy.load(f"pretrained:{name}")
    one, many = torch.zeros(policy.obs_dim), torch.zeros(3, policy.obs_dim)
    action, actions = policy.act(one), Policy.load(pretrained.find(name)).act(many)
    assert actions.shape == ((3,) if policy.discrete else (3, policy.act_dim))
    torch.testing.assert_close(actions, action.expand_as(actions))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pretrained:quikstart", "ckpt_path: no policy .* quikstart .did you mean quickstart"),
        ("pretrained:", "nothing"),
    ],
)
def test_a_name_that_is_not_known_is_one_line(name: str, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        Policy.load(name)
