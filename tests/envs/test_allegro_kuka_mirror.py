"""The two-arm scene and its mirror image: half a turn, with the arms' parts exchanged."""

from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import SignedPermutation
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS
from epo_lightning.envs.allegro_kuka.obstacles import Block
from epo_lightning.limits import Mistake
from tests.support.physics import mujoco_of

CPU = torch.device("cpu")
TURN = torch.tensor([-1.0, -1.0, 1.0])
QUAT = torch.tensor([-1.0, -1.0, 1.0, 1.0])
PAIR = [Block((0.06, 0.08, 0.1), (0.12, 0.1, 0.581), 0.2), Block((0.06, 0.08, 0.1), (-0.12, -0.1, 0.581), 0.2)]


def make(task: str, num_envs: int = 32, seed: int = 0, **kwargs: Any) -> AllegroKuka:
    return AllegroKuka(num_envs, CPU, seed, task=task, threads=1, **kwargs)


def turned(rows: Tensor, free: int, order: list[int]) -> tuple[Tensor, Tensor]:
    """Positions and velocities of the mirrored scene, built from the scene itself and not from the observation's map.

    Args:
        rows: (N, 46 + 7 B + 46 + 6 B) positions and velocities, the quaternions (w, x, y, z).
        free: B, the object and the free obstacles.
        order: Which free body takes the place of each.
    """
    pos, vel = rows.split([46 + 7 * free, 46 + 6 * free], dim=1)
    swapped = [torch.cat([part[:, 23:46], part[:, :23]], dim=1) for part in (pos, vel)]
    place = torch.tensor([-1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0])  # quaternion (w, x, y, z): r q r^-1
    bodies = pos[:, 46:].unflatten(1, (free, 7))[:, order] * place
    speeds = vel[:, 46:].unflatten(1, (free, 6))[:, order] * TURN.repeat(2)  # the spin in the body's own frame
    return torch.cat([swapped[0], bodies.flatten(1)], dim=1), torch.cat([swapped[1], speeds.flatten(1)], dim=1)


def put_mirrored(env: AllegroKuka, image: AllegroKuka, free: int, order: list[int]) -> None:
    """Put `image` into the mirrored state of `env`: bodies, goals, and what the task remembers."""
    ours, theirs = mujoco_of(env), mujoco_of(image)
    image.rules.load_state_dict(env.rules.state_dict())
    for each in (env, image):  # random forces are drawn: there are none here
        each.rules.memory.force.zero_()
        each.rules.memory.force_probability.zero_()
    rows = torch.cat([torch.from_numpy(ours._qpos), torch.from_numpy(ours._qvel)], dim=1)
    pos, vel = turned(rows, free, order)
    theirs.batch.reset()
    torch.from_numpy(theirs._qpos).copy_(pos)
    torch.from_numpy(theirs._qvel).copy_(vel)
    theirs.batch.forward()
    theirs._refresh()
    m = image.rules.memory
    keypoints = [2, 3, 0, 1] if m.goal_keypoints.shape[1] == 4 else [0]
    m.goal_keypoints.copy_(m.goal_keypoints[:, keypoints] * TURN)
    m.goal_pos.mul_(TURN)
    for part in (m.targets, m.closest_tips):
        part.copy_(torch.cat([*part.chunk(2, dim=1)][::-1], dim=1))


@pytest.mark.parametrize(
    ("task", "kwargs", "order"),
    [
        ("two_arm", {}, [0]),
        ("two_arm_regrasp", {"privileged": True}, [0]),
        ("two_arm_hole", {}, [0]),
        ("two_arm_partition", {"observe_obstacles": True}, [0, 1]),
        ("two_arm", {"obstacles": PAIR, "observe_obstacles": True, "objects": "cube"}, [0, 2, 1]),
    ],
)
def test_the_mirrored_action_in_the_mirrored_state_leads_to_the_mirrored_observation(
    task: str, kwargs: dict[str, Any], order: list[int]
) -> None:
    env, image = make(task, **kwargs), make(task, **kwargs)
    symmetry = env.symmetry()
    generator = torch.Generator().manual_seed(1)
    env.reset()
    image.reset()
    # over the table, so that some objects lie, some are hit, and hands and arms are anywhere
    action = torch.zeros(32, 46)
    for _ in range(30):
        action = (0.7 * action + 0.6 * torch.randn(32, 46, generator=generator)).clamp(-1, 1)
        env.step(action)
    put_mirrored(env, image, len(order), order)
    contacts = mujoco_of(env).batch.bind("ncon").sum()
    for step in range(3):
        move = (2 * torch.rand(32, 46, generator=generator) - 1) * 0.5
        ours, theirs = env.step(move), image.step(symmetry.actions(move))
        difference = (symmetry.obs(ours.obs) - theirs.obs).abs()
        assert difference.median() < 1e-5, step
        # speeds after a hard contact are rounded differently, everything else is not
        assert (difference > 1e-3).float().mean() < 1e-3, step
        assert torch.allclose(ours.reward, theirs.reward, atol=1e-3)
        assert torch.equal(ours.terminated, theirs.terminated)
    assert contacts > 32
    moved = (ours.obs - theirs.obs).abs().amax(dim=0)
    assert (moved > 1e-2).float().mean() > 0.8  # most entries are told apart by it
    env.close()
    image.close()


@pytest.mark.parametrize("task", [name for name, card in CARDS.items() if card.arms == 2])
def test_a_map_changes_signs_and_places_and_comes_back(task: str) -> None:
    env = make(task, 4)
    symmetry, obs = env.symmetry(), env.reset()
    move = torch.randn(4, 46)
    for part, values in ((symmetry.obs, obs), (symmetry.actions, move)):
        assert isinstance(part, SignedPermutation)
        assert torch.equal(part(part(values)), values)
        assert not torch.equal(part(values), values)
    env.close()


def test_each_arm_does_what_the_other_did() -> None:
    env = make("two_arm", 2)
    move = torch.arange(46.0).expand(2, 46)
    assert env.symmetry().actions(move)[0].tolist() == [*range(23, 46), *range(23)]
    obs = env.reset()
    state, seen = env.physics.state, env.symmetry().obs(obs)
    torch.testing.assert_close(seen[:, 92:95], state.palm_pos[:, 1] * TURN)  # the first palm is where the second was
    torch.testing.assert_close(seen[:, 118:122], state.object_frame[:, :4] * QUAT)
    torch.testing.assert_close(seen[:, 188:], obs[:, 188:])  # scales, distance, lifted, clock, successes, reward
    env.close()


def test_what_only_the_critic_sees_is_mirrored_too() -> None:
    env = make("two_arm", 2, privileged=True)
    obs = env.reset()
    hidden = obs[:, 196:] = torch.arange(1.0, 73.0).expand(2, 72)
    seen = env.symmetry().obs(obs)[:, 196:]
    torch.testing.assert_close(seen[:, :3], hidden[:, :3] * TURN)  # the object's place
    torch.testing.assert_close(seen[:, 3:7], hidden[:, 3:7] * QUAT)
    torch.testing.assert_close(seen[:, 13:16], hidden[:, 13:16] * TURN)  # the force that pushes it
    assert seen[0, 16:19].tolist() == [17.0, 18.0, 19.0]
    assert seen[0, 19:65].tolist() == [*range(43, 66), *range(20, 43)]  # targets: the arms change their parts
    assert torch.equal(seen[:, 65:], hidden[:, 65:])
    env.close()


def test_starts_and_goals_are_as_likely_as_their_images() -> None:
    env = make("two_arm", 2000, objects="cube")
    image = env.symmetry().obs(env.reset())
    obs = env.rules.observe(env.physics.state, env.rules.memory, torch.zeros(2000, 196)).obs
    spread = obs.std(0).clamp(min=1e-3)
    assert ((obs.mean(0) - image.mean(0)).abs() / spread).max() < 0.15  # 0.03 is one standard error
    assert ((obs.std(0) - image.std(0)).abs() / spread).max() < 0.15
    env.close()


@pytest.mark.parametrize(
    ("task", "kwargs", "line"),
    [
        ("single_arm_regrasp", {}, r"symmetry: AllegroKuka/single_arm_regrasp has no mirror image: it has one arm"),
        ("two_arm", {"obstacles": PAIR[:1]}, r"obstacles\[0\] has no counterpart at \(-x, -y, z\)"),
        (
            "two_arm",
            {"obstacles": [PAIR[0], Block((0.06, 0.08, 0.1), (-0.12, -0.1, 0.581), 0.3)]},
            r"obstacles\[0\] has no counterpart",
        ),
    ],
)
def test_a_scene_that_is_not_symmetric_is_refused(task: str, kwargs: dict[str, Any], line: str) -> None:
    env = make(task, 2, objects="cube", **kwargs)
    with pytest.raises(Mistake, match=line):
        env.symmetry()
    env.close()
