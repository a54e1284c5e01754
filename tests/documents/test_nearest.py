"""The nearest word, where one is near enough."""

import pytest

from epo_lightning.documents.nearest import hint, nearest

KEYS = ["model.loss.clip_eps", "model.loss.dual_clip", "model.network.obs_clip", "model.num_agents", "data.num_envs"]


@pytest.mark.parametrize(
    ("word", "known", "found"),
    [
        ("fti", ["fit", "test"], "fit"),
        ("scap", ["epo", "sac"], "sac"),
        ("WallMase", ["WallMaze", "Pendulum"], "WallMaze"),
        ("wallmaze", ["WallMaze", "Pendulum"], "WallMaze"),
        ("quikstart", ["quickstart", "sac"], "quickstart"),
        ("model.los.clip_eps", KEYS, "model.loss.clip_eps"),
        ("clip_eps", KEYS, "model.loss.clip_eps"),
        ("data.num_agents", KEYS, "model.num_agents"),
    ],
)
def test_a_misspelt_word_is_found(word: str, known: list[str], found: str) -> None:
    assert nearest(word, known) == found


@pytest.mark.parametrize(
    ("word", "known"), [("ppo", ["epo"]), ("x", ["fit"]), ("nothing", KEYS), ("a", []), ("", KEYS)]
)
def test_what_is_far_from_everything_is_not(word: str, known: list[str]) -> None:
    assert nearest(word, known) is None
    assert hint(word, known) == ""


def test_of_two_that_are_as_near_none_is_named() -> None:
    assert nearest("gain", ["a.first.gain", "a.other.gain"]) is None
