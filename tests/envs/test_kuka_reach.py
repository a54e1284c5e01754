"""Arms that reach: kinematics against MuJoCo, rewards and successes by hand, the mirror image, bad input."""

import mujoco
import pytest
import torch

from epo_lightning.envs.bodies import KukaReach
from epo_lightning.envs.bodies.kuka_arm import JOINTS, LIMITS, chain, steps_towards
from epo_lightning.envs.bodies.kuka_reach import BONUS, FULL_SPEED, POINTS, PROGRESS
from epo_lightning.limits import Mistake

CPU = torch.device("cpu")
BASE = torch.tensor([[-1.1, 0.0, 0.0], [1.1, 0.0, 0.0]])


def rest(env: KukaReach, position: torch.Tensor) -> None:
    """Put all environments to rest at `position` (N, Q)."""
    env.reset()
    env.worlds.reset(torch.arange(len(position)), position, torch.zeros_like(position))


def sites(env: KukaReach, number: int) -> torch.Tensor:
    """(A, 3) palm points in the world, by MuJoCo."""
    data = env.worlds.snapshot(number)
    return torch.stack([torch.from_numpy(data.site(f"palm_{arm}").xpos).float() for arm in range(env.arms)])


def in_world(points: torch.Tensor) -> torch.Tensor:
    """(..., 2, 3) of points in the frames of the two bases, which are turned by a quarter to either side."""
    x, y, z = points.unbind(-1)
    side = torch.tensor([1.0, -1.0])
    return torch.stack((-side * y, side * x, z), dim=-1) + BASE


def test_the_kinematics_are_those_of_the_scene() -> None:
    env = KukaReach(8, CPU, 0, threads=1)
    angles = LIMITS * (2 * torch.rand(8, 2, JOINTS, generator=torch.Generator().manual_seed(0)) - 1)
    points = torch.rand(8, 2, 3, generator=torch.Generator().manual_seed(1))
    rest(env, torch.cat((angles.flatten(1), points.flatten(1)), dim=1))
    palms = in_world(chain(angles)[2])
    for number in range(8):
        torch.testing.assert_close(palms[number], sites(env, number), rtol=0, atol=1e-5)
        data = env.worlds.snapshot(number)
        drawn = torch.stack([torch.from_numpy(data.body(f"point_{arm}").xpos).float() for arm in range(2)])
        torch.testing.assert_close(in_world(points)[number], drawn, rtol=0, atol=1e-6)


def test_small_steps_of_the_joints_move_the_palm_the_wanted_way() -> None:
    angles = torch.tensor([[-1.571, 1.0, 0.3, 1.6, 0.2, 1.0, 2.0], [0.5, -0.8, 0.1, 1.2, -0.4, 0.9, 0.0]])
    way = torch.tensor([[1e-3, 0.0, 0.0], [0.0, -5e-4, 1e-3]])
    moved = chain(angles + steps_towards(angles, way))[2] - chain(angles)[2]
    torch.testing.assert_close(moved, way, rtol=0, atol=1e-4)


def test_it_pays_for_what_both_hands_come_nearer() -> None:
    env = KukaReach(4, CPU, 3, threads=1)
    env.reset()
    points = in_world(env.worlds.position[:, -6:].float().unflatten(1, (2, 3)))
    before = torch.stack([sites(env, number) for number in range(4)])
    actions = torch.rand(4, 14, generator=torch.Generator().manual_seed(2)) * 2 - 1
    for _ in range(5):
        result = env.step(actions)
        now = torch.stack([sites(env, number) for number in range(4)])
        nearer = (points - before).norm(dim=-1) - (points - now).norm(dim=-1)
        torch.testing.assert_close(result.reward, PROGRESS * nearer.sum(dim=1), rtol=0, atol=2e-4)
        torch.testing.assert_close(result.log["distance"], (points - now).norm(dim=-1).mean(dim=1), rtol=0, atol=1e-5)
        before = now
    assert result.reward.abs().min() > 1e-3


def test_both_hands_at_their_points_at_once_are_a_success_and_new_points() -> None:
    env = KukaReach(3, CPU, 0, tolerance=0.05, threads=1)
    env.reset()
    position = env.worlds.position.float()
    position[:, -6:] = chain(position[:, :14].unflatten(1, (2, JOINTS)))[2].flatten(1)
    position[1, -6] += 0.06  # the first hand is too far away; another place on z is near enough
    position[2, -1] += 0.04
    rest(env, position)
    result = env.step(torch.zeros(3, 14))
    assert result.successes.tolist() == [1.0, 0.0, 1.0]
    assert not (result.terminated | result.truncated).any()
    torch.testing.assert_close(result.reward, BONUS * result.successes, rtol=0, atol=1e-3)
    points = env.worlds.position[:, -6:].float()
    assert torch.equal(points[1], position[1, -6:])
    for new in points[[0, 2]].unflatten(1, (2, 3)).flatten(0, 1):
        assert all(low <= float(x) <= high for x, (low, high) in zip(new, POINTS, strict=True))
    off = result.obs[:, -6:].abs().amax(dim=1)
    assert off[1] < 0.07 < off[0]  # new ones are seen at once


def test_a_full_action_moves_a_joint_at_full_speed() -> None:
    env = KukaReach(1, CPU, 0, threads=1)
    rest(env, torch.cat((torch.zeros(1, 14), torch.ones(1, 6)), dim=1))
    actions = torch.zeros(1, 14)
    actions[0, 6] = 1.0  # the last joint turns the hand and meets nothing
    for _ in range(10):
        env.step(actions)
    before = env.worlds.position[0, 6].item()
    for _ in range(10):
        env.step(actions)
    assert (env.worlds.position[0, 6].item() - before) / (10 / 30) == pytest.approx(FULL_SPEED, rel=0.05)


def test_drives_stay_within_the_limits_of_the_joints_and_fingers_do_not_move() -> None:
    env = KukaReach(1, CPU, 0, threads=1)
    assert (env.worlds.model.nu, env.worlds.model.nv) == (14, 14 + 6)
    rest(env, torch.cat((LIMITS, LIMITS, torch.ones(6)))[None])
    controls = env._controls(torch.ones(1, 14))
    assert torch.equal(controls[0].float(), torch.cat((LIMITS, LIMITS)))


def test_the_script_gets_there_again_and_again() -> None:
    env = KukaReach(16, CPU, 0, threads=1)
    env.reset()
    act = env.script()
    successes = sum(env.step(act()).successes for _ in range(300))
    assert isinstance(successes, torch.Tensor)
    assert successes.median() >= 12


def test_when_the_arms_change_parts_all_is_the_same() -> None:
    env, image = KukaReach(8, CPU, 0, threads=1), KukaReach(8, CPU, 0, threads=1)
    symmetry = env.symmetry()
    obs = env.reset()
    position = env.worlds.position.float()
    angles, points = position.split((14, 6), dim=1)
    rest(image, torch.cat((angles.roll(7, 1), points.roll(3, 1)), dim=1))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        actions = torch.rand(8, 14, generator=generator) * 2 - 1
        ours, theirs = env.step(actions), image.step(symmetry.actions(actions))
        torch.testing.assert_close(symmetry.obs(ours.obs), theirs.obs, rtol=0, atol=1e-4)
        torch.testing.assert_close(ours.reward, theirs.reward, rtol=0, atol=1e-4)
    assert (obs - ours.obs).abs().max() > 0.1
    assert not torch.equal(symmetry.obs(obs), obs)


def test_one_arm_is_the_first_of_two() -> None:
    one = KukaReach(2, CPU, 0, arms=1, threads=1)
    assert (one.spec.obs_dim, one.spec.act_dim, one.spec.name) == (20, 7, "KukaReach/one_arm")
    with pytest.raises(Mistake, match=r"symmetry: KukaReach/one_arm has no mirror image: use .*arms 2"):
        one.symmetry()
    assert isinstance(one.worlds.model, mujoco.MjModel)


@pytest.mark.parametrize(("key", "value"), [("arms", 3), ("arms", 0), ("tolerance", 0.0), ("tolerance", float("nan"))])
def test_bad_arguments_are_one_line(key: str, value: float) -> None:
    with pytest.raises(Mistake, match=rf"^data\.env\.init_args\.{key} must be [^\n]+$"):
        KukaReach(1, CPU, 0, **{key: value})  # type: ignore[arg-type]
