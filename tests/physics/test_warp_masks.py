"""On Warp a step chooses environments by masks, so that the host waits for nothing; the rest is as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("mujoco_warp")

from benchmarks.gpu_check.waits import PER_ROLLOUT, Waits, count_waits
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.randomization import Randomization

DEVICES = [pytest.param("cpu"), *([pytest.param("cuda")] if torch.cuda.is_available() else [])]
RANDOM = Randomization(
    friction=(0.5, 1.5), mass=(0.5, 2.0), gains=(0.9, 1.1), latency=(0, 2), observation_noise=(0.0, 0.01)
)


def env_on(device: str, num_envs: int = 6, **kwargs: Any) -> AllegroKuka:
    return AllegroKuka(num_envs, torch.device(device), 0, task="single_arm_regrasp", physics="warp", **kwargs)


def test_a_masked_reset_is_the_reset_of_those_environments() -> None:
    by_ids, by_mask = env_on("cpu").physics, env_on("cpu").physics
    mask = torch.tensor([True, False, False, True, True, False])
    ids = mask.nonzero().flatten()
    state = by_ids.state
    start = state.joint_pos + 0.1, state.joint_vel + 0.2, state.object_pos + 0.3, state.object_frame[:, :4].clone()
    goal = torch.rand(6, 3), state.object_frame[:, :4].clone()
    before = by_ids.state.rows(~mask)
    by_ids.reset(ids, *(part[ids] for part in start))
    by_ids.place_goal(ids, *(part[ids] for part in goal))
    by_mask.reset(mask, *start)
    by_mask.place_goal(mask, *goal)
    assert (by_mask.state.object_pos[ids] - start[2][ids]).abs().max() < 1e-6
    for ours, theirs, old in zip(by_mask.state, by_ids.state, before, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(ours[~mask], old[~mask])
    for _ in range(3):
        by_ids.step(start[0])
        by_mask.step(start[0])
    for name, kept in by_ids.state_dict().items():
        assert name == "engine" or torch.equal(kept, by_mask.state_dict()[name]), name


@pytest.mark.gpu
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("randomization", [None, RANDOM], ids=["plain", "randomised"])
def test_a_step_in_which_episodes_end_and_goals_are_reached_waits_for_nothing(
    device: str, randomization: Randomization | None
) -> None:
    env = env_on(device, objects="cube", randomization=randomization, privileged=True, curriculum_interval=1)
    env.reset()
    actions = torch.zeros(6, env.spec.act_dim, device=device)
    env.step(actions)  # what is made once
    memory, waits = env.rules.memory, Waits()
    memory.progress[:2] = env.rules.card.budget
    memory.goal_reached[4:] = True
    memory.successes[:2] = 3
    goals = memory.goal_pos.clone()
    with waits.counting(torch.device(device)):
        result = env.step(actions)
    assert waits.where().total() == 0, waits.where()
    assert result.truncated.tolist() == [True] * 2 + [False] * 4
    assert (memory.goal_pos != goals).any(1).tolist() == [True, True, False, False, True, True]
    assert memory.progress[:4].tolist() == [0, 0, 2, 2]
    assert memory.last_successes.tolist() == [3, 3, 0, 0, 0, 0]
    assert result.final_obs is not None
    assert not torch.equal(result.final_obs[:2], result.obs[:2])


@pytest.mark.gpu
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("units", [0, 8])
def test_a_training_waits_once_per_step_and_once_per_rollout(device: str, units: int) -> None:
    """`docs/gpu.md` names them: whether an episode was cut, and whether everything is finite."""
    counts = count_waits(torch.device(device), units, 8, "single_arm_regrasp", horizon=4)
    assert counts.parts["env step"] == [0] * 8
    assert counts.parts["rollout"] == [4 + PER_ROLLOUT] * 2, counts.where
    assert counts.parts["update"] == [0, 0], counts.where


def test_what_would_wait_is_seen() -> None:
    """Otherwise the counts above prove nothing."""
    numbers = torch.arange(4.0)
    calls: dict[str, Callable[[], object]] = {
        "item": lambda: numbers[0].item(),
        "bool": lambda: bool(numbers.any()),
        "float": lambda: float(numbers.sum()),
        "tolist": lambda: numbers.tolist(),
        "nonzero": lambda: numbers.nonzero(),
        "mask": lambda: numbers[numbers > 1],
        "written mask": lambda: numbers.clone().__setitem__(numbers > 1, torch.zeros(2)),
        "cpu": lambda: numbers.cpu(),
        "numpy": lambda: numbers.numpy(),
        "tensor": lambda: torch.tensor([1.0], device="cpu"),
        "equal": lambda: torch.equal(numbers, numbers),
        "unique": lambda: numbers.unique(),
        "a number into one entry": lambda: numbers.clone().__setitem__(2, 1.0),
        "a module": lambda: torch.nn.Linear(1, 1).to(torch.device("cpu")),
    }
    for name, call in calls.items():
        waits = Waits()
        with waits.counting(torch.device("cpu")):
            call()
        assert waits.where().total() == 1, (name, waits.where())
