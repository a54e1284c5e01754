"""Obstacles as data: what may stand where, new tasks in YAML, saved states."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, HOLE, variant
from epo_lightning.envs.allegro_kuka.objects import OBJECT_SETS, reach
from epo_lightning.envs.allegro_kuka.obstacles import Block, check_obstacles, overlap
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import build_scene
from tests.support.command_line import Cli

PAGE = Path(__file__).parents[2] / "docs" / "allegro_kuka.md"
POST = Block((0.05, 0.1, 0.2), (0.0, 0.15, 0.9))
PUSHED = Block((0.05, 0.1, 0.2), (0.0, 0.0, 0.63), mass=0.2)


def make(num_envs: int = 2, **kwargs: Any) -> AllegroKuka:
    return AllegroKuka(num_envs, torch.device("cpu"), 0, **kwargs)


def small_run(obstacles: str, **flags: object) -> list[object]:
    """The command line of a tiny training of two arms with `obstacles`."""
    env = "--data.env=epo_lightning.envs.allegro_kuka.AllegroKuka"
    init = {"threads": 1, "obstacles": obstacles, **flags}
    arguments = [f"--data.env.init_args.{name}={value}" for name, value in init.items()]
    return ["fit", "--config=tiny.yaml", env, *arguments, "--trainer.max_epochs=1", "--model.rollout.horizon=2"]


# ------------------------------------------------------------------------------------------------------------ overlap


def test_touching_is_no_overlap() -> None:
    assert not overlap(POST.box, HOLE[0].box)  # stands on it
    assert not overlap(POST.box, HOLE[1].box)
    assert overlap(POST.box, Block((0.05, 0.1, 0.2), (0.0, 0.15, 0.9001)).box)
    assert not overlap(POST.box, Block((0.05, 0.1, 0.2), (0.05, 0.15, 0.9)).box)
    assert overlap(POST.box, Block((0.05, 0.1, 0.2), (0.0499, 0.2, 1.0)).box)


def test_the_object_needs_room_for_its_diagonal_on_both_sides() -> None:
    # reach of the longest stick, 2.5 x 2.5 x 30 cm: half of sqrt(0.025^2 + 0.025^2 + 0.3^2); with a larger box less
    longest = max(sum(factor**2 for factor in shape) ** 0.5 for shape in OBJECT_SETS["all"]()) * 0.05 / 2
    assert reach(OBJECT_SETS["all"]()) == pytest.approx(longest)
    assert reach([(1.0, 2.0, 2.0)]) == pytest.approx(0.075)
    starts = CARDS["two_arm"].object_starts  # |x| from 0.25 to 0.45
    for side in (1, -1):
        near = Block((0.1, 0.1, 0.1), (side * (0.2 - 0.07), 0.0, 0.6))
        check_obstacles([near], starts, 0.07)
        with pytest.raises(ValueError, match=r"obstacles\[0\] must leave room for the object, which may start in x"):
            check_obstacles([near], starts, 0.0701)
    assert len(CARDS["single_arm_throw"].object_starts) == 1  # its goal is mirrored, its object is not


@pytest.mark.parametrize("task", list(CARDS))
def test_every_task_keeps_its_own_rules(task: str) -> None:
    card = CARDS[task]
    check_obstacles(card.obstacles, card.object_starts, reach(OBJECT_SETS[card.objects]()))
    build_scene(card, GAINS["stiff"])


# ----------------------------------------------------------------------------------------------------------- mistakes

MISTAKES = {
    "too many": ("[" + "{size: [0.01, 0.01, 0.01], pos: [0, 0, 0.7]}," * 9 + "]", "room for 8 blocks; got 9"),
    "no size": ("[{size: [0.1, 0, 0.1], pos: [0, 0, 0.7]}]", "[0].size must be greater than 0"),
    "not a number": ("[{size: [0.1, .nan, 0.1], pos: [0, 0, 0.7]}]", "[0].size must be greater than 0"),
    "no mass": ("[{size: [0.1, 0.1, 0.1], pos: [0, 0, 0.7], mass: 0}]", "[0].mass must be greater than 0"),
    "below the ground": ("[{size: [0.1, 0.1, 0.4], pos: [0, 0, 0.1]}]", "[0] must not reach below the ground"),
    "where the object starts": (
        "[{size: [0.1, 0.1, 0.1], pos: [-0.35, 0, 0.7]}]",
        "[0] must leave room for the object",
    ),
    "in another one": (
        "[{size: [0.1, 0.1, 0.1], pos: [0, 0, 0.7]}, {size: [0.1, 0.1, 0.1], pos: [0, 0.05, 0.7]}]",
        "[1] overlaps data.env.init_args.obstacles[0]",
    ),
    "in an arm": ("[{size: [0.1, 0.1, 0.1], pos: [-0.66, 0, 0.75]}]", "[0] overlaps a robot in its default pose"),
    "in a base": ("[{size: [0.1, 0.1, 0.1], pos: [1.1, 0.05, 0.1]}]", "[0] overlaps a robot in its default pose"),
    "free, and in the table": (
        "[{size: [0.1, 0.1, 0.1], pos: [0, 0, 0.57], mass: 1}]",
        "must not begin inside the table",
    ),
    "two edges": ("[{size: [0.1, 0.1], pos: [0, 0, 0.7]}]", "a list of 3 numbers"),
    "no place": ("[{size: [0.1, 0.1, 0.1]}]", "pos"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_block_that_cannot_stand_there_costs_one_line(cli: Cli, mistake: str) -> None:
    obstacles, words = MISTAKES[mistake]
    outcome = cli(*small_run(obstacles))
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert "obstacles" in outcome.err
    assert words in outcome.err


def test_nothing_to_observe_costs_one_line(cli: Cli) -> None:
    outcome = cli(*small_run("[]", observe_obstacles="true"))
    assert outcome.code == 2
    assert outcome.err.startswith("error: data.env.init_args.observe_obstacles: no obstacle of two_arm can be pushed")
    assert outcome.err.count("\n") == 1


# ---------------------------------------------------------------------------------------------------------- new tasks


def test_the_window_of_the_page_is_a_task(cli: Cli) -> None:
    (window,) = re.findall(r"```yaml\n(# window\.yaml\n.*?)```", PAGE.read_text(), re.DOTALL)
    Path("window.yaml").write_text(window)
    flags = ["--data.num_envs=16", "--trainer.max_epochs=1", "--model.rollout.horizon=2", "--run_dir=run"]
    outcome = cli("fit", "--config=tiny.yaml", "--config=window.yaml", *flags)
    assert outcome.code == 0, outcome.err
    saved = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    (blocks, *_) = find(saved, "obstacles")
    # the hole, and two posts that leave 0.20 x 0.20 m of it
    posts = [Block((0.05, 0.1, 0.2), (0.0, y, 0.9)) for y in (-0.15, 0.15)]
    expected = [{"size": [*b.size], "pos": [*b.pos], "mass": None} for b in (*HOLE, *posts)]
    assert sorted(blocks, key=str) == sorted(expected, key=str)
    outcome = cli("test", "--ckpt_path=run", "--data.eval_envs=1", "--data.eval_episodes=1", "--data.eval_seeds=1")
    assert outcome.code == 0, outcome.err
    told = json.loads(Path("run/checkpoints/last.test.json").read_text())["env"]["init_args"]["obstacles"]
    assert [block["pos"] for block in told] == [block["pos"] for block in blocks]


def find(tree: object, key: str) -> list[Any]:
    """All values of `key` in nested dicts and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else []
    return [found for name, value in items for found in ([value] if name == key else find(value, key))]


def test_free_and_fixed_blocks_in_any_order() -> None:
    env = make(obstacles=[PUSHED, POST, Block((0.05, 0.1, 0.1), (0.0, 0.3, 0.9), mass=0.3)], observe_obstacles=True)
    assert env.spec.obs_dim == 196 + 26
    obs = env.reset()
    assert obs[:, 191:204].tolist() == [pytest.approx([0, 0, 0.63, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0])] * 2
    hold = (2 * env.rules.default - env.rules.low - env.rules.high) / (env.rules.high - env.rules.low)
    for _ in range(12):
        result = env.step(hold.expand(2, -1))
    # the first one stands on the table, the last one falls: 24 steps of 1/120 s
    assert result.obs[:, 193].tolist() == pytest.approx([0.63] * 2, abs=2e-3)
    assert result.obs[:, 206].tolist() == pytest.approx([0.9 - 9.81 * 24 * 25 / 2 / 120**2] * 2, abs=1e-3)
    assert result.obs[:, 213].tolist() == pytest.approx([-9.81 * 0.2] * 2, abs=1e-3)
    env.physics.place_object(torch.tensor([0, 1]), torch.tensor([[0.3, 0.0, 0.05]] * 2), torch.eye(4)[[3, 3]])
    ended = env.step(hold.expand(2, -1))
    assert ended.terminated.all()
    assert ended.obs[:, 206].tolist() == pytest.approx([0.9] * 2)  # a new episode: it is back


def test_without_obstacles_every_task_of_a_family_is_the_same() -> None:
    bare, barrier = make(), make(task="two_arm_barrier", obstacles=[])
    torch.testing.assert_close(bare.reset(), barrier.reset())  # two models: the same numbers, perhaps in another order
    torch.testing.assert_close(bare.step(torch.ones(2, 46)).obs, barrier.step(torch.ones(2, 46)).obs)


def test_states_of_other_obstacles_are_refused(tmp_path: Path) -> None:
    first = make(task="two_arm_partition", obstacles=[PUSHED], observe_obstacles=True)
    first.reset()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    twin = make(task="two_arm_partition", obstacles=[PUSHED], observe_obstacles=True)
    twin.load_state_dict(state)
    moves = torch.full((2, 46), 0.3)
    assert torch.equal(first.step(moves).obs, twin.step(moves).obs)
    heavier = Block(PUSHED.size, PUSHED.pos, mass=0.3)
    for obstacles in (None, [heavier], [PUSHED, POST]):
        other = make(task="two_arm_partition", obstacles=obstacles, observe_obstacles=True)
        with pytest.raises(
            ValueError, match=r"init_args\.obstacles must be \[.*'mass': 0\.2.*\], as in the saved"
        ) as error:
            other.load_state_dict(state)
        assert "\n" not in str(error.value)
    blind = make(task="two_arm_partition", obstacles=[PUSHED])
    with pytest.raises(ValueError, match=r"init_args\.observe_obstacles must be True"):
        blind.load_state_dict(state)
    assert variant("two_arm_partition", [PUSHED], False).obs_dim == blind.spec.obs_dim
