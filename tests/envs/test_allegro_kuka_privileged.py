"""What the critic alone sees of the Allegro-Kuka tasks."""

import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.randomization import Randomization
from epo_lightning.envs.allegro_kuka.rotation import rotate
from epo_lightning.envs.check import check_env

CPU = torch.device("cpu")


@pytest.mark.parametrize(("task", "seen", "hidden"), [("two_arm", 196, 72), ("single_arm_regrasp", 99, 49)])
def test_it_comes_behind_what_a_policy_sees_and_changes_nothing_else(task: str, seen: int, hidden: int) -> None:
    plain, told = (AllegroKuka(3, CPU, 0, task=task, privileged=privileged) for privileged in (False, True))
    assert plain.spec.groups == ()
    assert ", ".join(map(str, told.spec.groups)) == f"policy {seen}, critic {hidden} (privileged)"
    first = told.reset()
    assert first.shape == (3, seen + hidden)
    assert torch.equal(first[:, :seen], plain.reset())
    generator = torch.Generator().manual_seed(0)
    told.rules.memory.force_probability.fill_(1.0)
    plain.rules.memory.force_probability.fill_(1.0)
    for _ in range(20):
        actions = told.spec.random_actions(generator)
        one, other = plain.step(actions), told.step(actions)
        assert torch.equal(one.obs, other.obs[:, :seen])
        assert torch.equal(one.reward, other.reward)
    state, memory, rules = told.physics.state, told.rules.memory, told.rules
    place, frame, force, chance, tolerance, near, targets, drawn = other.obs[:, seen:].split(
        [3, 10, 3, 1, 1, 1, hidden - 26, 7], dim=1
    )
    assert torch.equal(place, state.object_pos)
    assert torch.equal(frame, state.object_frame.clamp(-10, 10))
    assert torch.equal(force, rotate(state.object_frame[:, :4], memory.force))
    assert force.norm(dim=1).min() > 0.0
    assert chance.tolist() == [[1.0]] * 3
    assert torch.equal(tolerance, torch.full((3, 1), rules.tolerance))
    assert near.tolist() == [[0.0]] * 3
    assert torch.allclose(rules.middle + targets * rules.half_range, memory.targets, atol=1e-6)
    assert drawn.tolist() == [[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]] * 3
    plain.close()
    told.close()


def test_the_critic_is_told_what_randomisation_has_drawn() -> None:
    ranges = Randomization(mass=(0.5, 2.0), latency=(12, 20), observation_noise=(0.1, 0.2))
    env = AllegroKuka(4, CPU, 0, task="single_arm_regrasp", privileged=True, randomization=ranges)
    first = env.reset()[:, -7:].clone()
    names, _, values = env.drawn()
    assert names == ("mass", "latency", "observation_noise")
    assert torch.equal(first[:, [1, 4, 5]], values)
    assert first[:, [0, 2, 3, 6]].tolist() == [[1.0, 1.0, 1.0, 0.0]] * 4
    assert len(first.unique(dim=0)) == 4
    env.step(env.spec.zero_actions())
    saved = env.state_dict()
    env.physics.state.object_pos[1, 2] = 0.0  # it has fallen: the next episode draws anew
    result = env.step(env.spec.zero_actions())
    ended = result.terminated.tolist()
    assert ended[0] is False
    assert torch.equal(result.obs[0, -7:], first[0])
    assert torch.equal(result.obs[:, [-6, -3, -2]], env.drawn().values)
    other = AllegroKuka(4, CPU, 0, task="single_arm_regrasp", privileged=True, randomization=ranges)
    other.load_state_dict(saved)
    assert torch.equal(other.step(env.spec.zero_actions()).obs[:, -7:], first)
    env.close()
    other.close()


def test_the_time_near_the_goal_is_a_share() -> None:
    env = AllegroKuka(2, CPU, 0, task="single_arm_regrasp", privileged=True)
    env.reset()
    env.rules.memory.near_steps[0] = 15.0
    assert env.step(env.spec.zero_actions()).obs[:, 99 + 18].tolist() == [0.5, 0.0]
    env.close()


def test_it_keeps_the_contract() -> None:
    env = AllegroKuka(2, CPU, 0, task="single_arm_throw", privileged=True)
    check_env(env, 12)
    env.close()
