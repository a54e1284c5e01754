"""The whole environment: contract, episodes, resume, failures."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Never

import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS
from epo_lightning.envs.allegro_kuka.objects import object_scales
from epo_lightning.envs.allegro_kuka.obstacles import Block
from epo_lightning.envs.base import StepResult
from tests.support.command_line import Cli
from tests.support.physics import mujoco_of

CPU = torch.device("cpu")


def make(num_envs: int = 6, seed: int = 0, **kwargs: Any) -> AllegroKuka:
    return AllegroKuka(num_envs, CPU, seed, **kwargs)


def actions(env: AllegroKuka, steps: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(steps, env.spec.num_envs, env.spec.act_dim, generator=generator) - 1


def run(env: AllegroKuka, moves: torch.Tensor) -> list[torch.Tensor]:
    """Everything that was returned, stacked over time."""
    results = [env.step(move) for move in moves.unbind()]
    fields = ("reward", "terminated", "truncated", "successes")
    return [torch.stack([getattr(r, f) for r in results]) for f in fields] + [results[-1].obs.clone()]


@pytest.mark.parametrize("task", list(CARDS))
def test_every_task_steps(task: str) -> None:
    env = make(4, task=task)
    assert env.reset().shape == (4, env.spec.obs_dim)
    for move in actions(env, 20):
        result = env.step(move)
        assert result.final_obs is not None
        assert result.obs.shape == result.final_obs.shape == (4, env.spec.obs_dim)
        assert result.obs.isfinite().all()
        assert result.obs.abs().max() <= 10
        assert result.reward.isfinite().all()
        assert not (result.terminated & result.truncated).any()
        assert result.log["physics_resets"] == 0
    assert set(result.log) >= {"tolerance", "lifted", "fingertip_distance", "keypoint_distance", "object_height"}
    env.close()


def test_spec() -> None:
    spec = make(2).spec
    assert (spec.name, spec.num_envs, spec.obs_dim, spec.act_dim) == ("AllegroKuka/two_arm", 2, 196, 46)
    assert spec.max_episode_steps == 50 * 599
    assert spec.step_seconds == pytest.approx(1 / 60)


def test_first_observation_is_the_physical_state() -> None:
    env = make(5)
    obs = env.reset()
    state = env.physics.state
    assert torch.allclose(obs[:, 92:98], state.palm_pos.flatten(1))
    assert torch.allclose(obs[:, 46:92], state.joint_vel)
    assert state.joint_vel.abs().max() <= 0.5
    assert state.joint_vel.abs().max() > 0.3
    assert (state.object_pos[:, 0].abs() - 0.35).abs().max() <= 0.1 + 1e-6
    # keypoint distance: nothing better is known yet; no lift, clock, success, reward
    to_goal = obs[:, 176:188].unflatten(1, (4, 3)).norm(dim=2).amax(dim=1)
    assert torch.allclose(obs[:, 191], to_goal, atol=1e-5)
    assert (obs[:, 192:196] == 0).all()
    assert (env.rules.memory.closest_goal == -1).all()


def test_same_seed_same_course_other_seed_other_course() -> None:
    a, b, c = make(seed=1), make(seed=1, threads=1), make(seed=2)
    assert torch.equal(a.reset(), b.reset())
    assert not torch.equal(c.reset(), b._final_obs)
    moves = actions(a, 30)
    results = [run(env, moves) for env in (a, b, c)]
    assert all(torch.equal(x, y) for x, y in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[0][-1], results[2][-1])


@pytest.mark.parametrize("task", ["two_arm", "single_arm_regrasp", "two_arm_partition"])
def test_resume_to_the_bit(task: str, tmp_path: Path) -> None:
    first = make(8, task=task, tolerance=0.3)  # a wide tolerance: goals are reached, too
    first.reset()
    moves = actions(first, 80)
    first.rules.memory.progress[:4] = torch.tensor([520.0, 540.0, 560.0, 580.0])  # some episodes end on the way
    before = run(first, moves[:40])
    physics, rules = first.physics.state, first.rules
    here = rules._keypoints(physics.object_pos, physics.object_frame[:, :4], rules.offsets)
    rules.memory.goal_keypoints[5] = here[5]  # and one goal is reached for sure
    path = tmp_path / "state.pt"
    torch.save(first.state_dict(), path)
    expected = run(first, moves[40:])
    second = make(8, task=task, threads=1, tolerance=0.3)
    second.reset()  # whatever it has drawn is overwritten
    second.load_state_dict(torch.load(path, weights_only=True))
    got = run(second, moves[40:])
    assert all(torch.equal(x, y) for x, y in zip(got, expected, strict=True))
    if task == "two_arm":
        assert expected[3].any()
        ends = torch.cat([before[1] | before[2], expected[1] | expected[2]])
        assert ends.any()
        assert (expected[0] != 0).any()


def test_states_of_other_environments_are_refused() -> None:
    env = make(4)
    with pytest.raises(ValueError, match=r"data\.num_envs must be 6 .* got 4"):
        env.load_state_dict(make(6).state_dict())
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.task must be two_arm_hole"):
        env.load_state_dict(make(4, task="two_arm_hole").state_dict())
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.objects must be cube"):
        env.load_state_dict(make(4, objects="cube").state_dict())
    with pytest.raises(ValueError, match="other objects: another seed dealt them out"):
        env.load_state_dict(make(4, seed=1).state_dict())
    with pytest.raises(ValueError, match="lacks task"):
        env.load_state_dict({})


MISTAKES = {
    "task=juggling": ("task must be one of two_arm, ", "single_arm_throw; got 'juggling'"),
    "objects=spheres": ("objects must be one of all, small, big, sticks, cube", "got 'spheres'"),
    "objects=[]": ("objects must have at least one shape, or be one of all", "got an empty list"),
    "objects=[[1, 1, 1], [1, 0, 1]]": ("objects[1] must be three factors of a 5 cm edge, above 0", "[1.0, 0.0, 1.0]"),
    "objects=[[1, -1, 1]]": ("objects[0] must be three factors", "[1.0, -1.0, 1.0]"),
    "objects=[[1, 1, .nan]]": ("objects[0] must be three factors", "[1.0, 1.0, nan]"),
    "objects=[[10.1, 1, 1]]": ("objects[0] must be three factors", "at most 10 (0.5 m); got [10.1, 1.0, 1.0]"),
    "tolerance=-0.1": ("tolerance must be greater than 0", "got -0.1"),
    "final_tolerance=0.1": ("final_tolerance must be positive and at most data.env.init_args.tolerance (0.075)", "0.1"),
    "curriculum_interval=0": ("curriculum_interval must be at least 1", "got 0"),
    "arm_speed=0": ("arm_speed must be positive (rad/s)", "got 0.0"),
    "gains=soft": ("gains must be one of stiff, original", "got 'soft'"),
    "threads=0": ("threads must be at least 1", "got 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_on_the_command_line_is_one_line(cli: Cli, mistake: str) -> None:
    start, end = MISTAKES[mistake]
    env = "--data.env=epo_lightning.envs.allegro_kuka.AllegroKuka"
    outcome = cli("fit", "--config=tiny.yaml", env, f"--data.env.init_args.{mistake}")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: data.env.init_args.{start}")
    assert outcome.err.endswith(f"{end}\n")
    assert outcome.err.count("\n") == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_are_handed_over_on_the_device() -> None:
    env = AllegroKuka(4, torch.device("cuda"), 0, threads=1)
    assert env.reset().is_cuda
    result = env.step(torch.zeros(4, 46, device="cuda"))
    tensors = [*result[:6], *result.log.values()]
    assert all(isinstance(tensor, torch.Tensor) and tensor.is_cuda for tensor in tensors)


def test_time_limit_truncates_after_599_steps_and_gives_the_final_observation() -> None:
    env = make(3)
    env.reset()
    hold = torch.zeros(3, 46)
    env.rules.memory.progress[:] = torch.tensor([0.0, 597.0, 598.0])
    result = env.step(hold)
    assert result.truncated.tolist() == [False, False, True]
    assert result.final_obs is not None
    # the last observation still shows the old clock, the new one a fresh one
    assert result.final_obs[2, 193] == pytest.approx(torch.log1p(torch.tensor(59.9)).item())
    assert result.obs[2, 193] == 0
    assert not torch.equal(result.final_obs[2], result.obs[2])
    assert torch.allclose(result.obs[2, 92:98], env.physics.state.palm_pos[2].flatten())
    assert env.step(hold).truncated.tolist() == [False, True, False]
    assert env.rules.memory.progress.tolist() == [2, 0, 1]


def test_dropped_object_terminates_and_restarts() -> None:
    env = make(3)
    env.reset()
    low = torch.tensor([[0.0, 0.7, 0.13]])
    env.physics.place_object(torch.tensor([1]), low, torch.tensor([[0.0, 0.0, 0.0, 1.0]]))
    mujoco_of(env).batch.bind("qvel")[1, 48] = -3.0
    result = env.step(torch.zeros(3, 46))
    assert result.terminated.tolist() == [False, True, False]
    assert torch.as_tensor(result.log["object_height"])[1] < 0.1
    assert env.physics.state.object_pos[1, 2] > 0.6


def test_a_reached_goal_is_counted_and_replaced_one_step_later() -> None:
    env = make(2, tolerance=0.3)
    env.reset()
    goal = env.rules.memory.goal_keypoints
    physics, rules = env.physics.state, env.rules
    goal[0] = rules._keypoints(physics.object_pos, physics.object_frame[:, :4], rules.offsets)[0]
    goal[1] += 5.0
    old = goal.clone()
    result = env.step(torch.zeros(2, 46))
    assert result.successes.tolist() == [1, 0]
    assert result.reward[0] > 999
    assert torch.equal(env.rules.memory.goal_keypoints, old)
    assert not (result.terminated | result.truncated).any()
    height = env.physics.state.object_pos[0, 2].item()
    env.step(torch.zeros(2, 46))
    assert not torch.equal(env.rules.memory.goal_keypoints[0], old[0])
    assert torch.equal(env.rules.memory.goal_keypoints[1], old[1])
    # the marker follows, the object stays where it is
    marker = torch.from_numpy(mujoco_of(env).batch.bind("mocap_pos"))[0, 0].float()
    assert torch.allclose(marker, env.rules.memory.goal_pos[0])
    assert abs(env.physics.state.object_pos[0, 2].item() - height) < 0.05
    assert env.rules.memory.successes.tolist() == [1, 0]


def test_regrasping_puts_the_object_back_on_success() -> None:
    env = make(2, task="two_arm_regrasp")
    env.reset()
    for _ in range(40):
        env.step(torch.zeros(2, 46))
    env.rules.memory.goal_reached[0] = True
    env.rules.memory.lifted[:] = True
    env.step(torch.zeros(2, 46))
    height = env.physics.state.object_pos[:, 2]
    assert height[0] > 0.6  # above the table again
    assert env.rules.memory.lifted.tolist() == [False, True]


def test_blown_up_environment_is_counted_terminated_and_healed() -> None:
    env, twin = make(4), make(4)
    for e in (env, twin):
        e.reset()
        for move in actions(e, 5):
            e.step(move)
    mujoco_of(env).batch.bind("qpos")[2, 10] = float("nan")
    move = actions(env, 1)[0]
    result, expected = env.step(move), twin.step(move)
    assert result.log["physics_resets"] == 1
    assert result.terminated.tolist() == [False, False, True, False]
    assert result.reward[2] == 0
    assert result.obs.isfinite().all()
    assert result.final_obs is not None
    assert result.final_obs.isfinite().all()
    others = [0, 1, 3]
    assert torch.equal(result.obs[others], expected.obs[others])
    assert torch.equal(result.reward[others], expected.reward[others])
    # the default pose plus noise, not the model's zero pose
    default = env.rules.default
    assert (env.physics.state.joint_pos[2] - default).abs().max() < 0.6
    assert env.step(move).log["physics_resets"] == 0
    mujoco_of(env).batch.bind("qpos")[2, 10] = float("nan")  # and once more
    assert env.step(move).log["physics_resets"] == 1


def test_a_failed_simulation_is_healed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from mujoco import batch

    env = make(3)
    env.reset()
    real = mujoco_of(env).batch.step

    def fail(**kwargs: object) -> Never:
        real(**kwargs)
        raise batch.SimulationError(torch.tensor([1]).numpy(), "out of memory")

    monkeypatch.setattr(mujoco_of(env).batch, "step", fail)
    result = env.step(torch.zeros(3, 46))
    assert result.terminated.tolist() == [False, True, False]
    assert result.log["physics_resets"] == 1


def test_curriculum_is_handed_over() -> None:
    env = make(2)
    env.set_curriculum({"tolerance": 0.05})
    assert env.curriculum() == {"tolerance": 0.05}
    env.reset()
    assert env.step(torch.zeros(2, 46)).log["tolerance"] == pytest.approx(0.05)


def test_a_tolerance_from_outside_is_held_in_a_saved_state_too() -> None:
    held, free, restored = (make(2, curriculum_interval=2) for _ in range(3))
    held.set_curriculum({"tolerance": 0.05})
    for env in (held, free, restored):
        env.reset()
    restored.load_state_dict(held.state_dict())
    for env in (held, free, restored):
        env.rules.memory.last_successes[:] = 4.0
        for _ in range(5):
            env.step(torch.zeros(2, 46))
    assert held.curriculum() == restored.curriculum() == {"tolerance": 0.05}
    assert free.curriculum()["tolerance"] == pytest.approx(0.075 * 0.81)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"data\.eval_difficulty\.tolerance must be greater than 0"):
            held.set_curriculum({"tolerance": wrong})


def test_true_objective_is_logged_for_every_environment() -> None:
    env = make(2)
    env.reset()
    env.rules.memory.last_successes[:] = torch.tensor([0.0, 7.0])

    def objective() -> list[float]:
        return torch.as_tensor(env.step(torch.zeros(2, 46)).log["true_objective"]).tolist()

    assert objective() == pytest.approx([0, 0.07])
    env.set_curriculum({"tolerance": 0.0425})  # half of the way from 0.075 to 0.01
    assert objective() == pytest.approx([0.5, 0.57])
    env.set_curriculum({"tolerance": 0.01})
    assert objective() == [1, 8]


def test_own_shapes_are_taken_in_turn_and_remembered() -> None:
    shapes = [(1.0, 1.0, 1.0), (2.0, 1.0, 4.0)]
    env = make(3, objects=shapes)
    scales = env.rules.scales
    assert torch.equal(scales, object_scales(shapes, 3, 0).float())
    assert scales[0].tolist() == scales[2].tolist() != scales[1].tolist()
    assert mujoco_of(env).batch.get_model(1).geom("object").size.tolist() == pytest.approx((0.025 * scales[1]).tolist())
    state = env.state_dict()
    make(3, objects=[list(shape) for shape in shapes]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"init_args\.objects must be \[\[1\.0, 1\.0, 1\.0\], \[2\.0, 1\.0, 4\.0\]\]"):
        make(3, objects=shapes[:1]).load_state_dict(state)
    # the largest shape needs room at the start: half its diagonal is 0.115 m
    with pytest.raises(ValueError, match=r"obstacles\[0\] must leave room"):
        make(3, objects=shapes, obstacles=[Block((0.05, 0.1, 0.1), (0.12, 0.0, 0.6))])
    make(3, objects=shapes[:1], obstacles=[Block((0.05, 0.1, 0.1), (0.12, 0.0, 0.6))])


def test_torch_threads_are_left_as_they_were() -> None:
    env = make(2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        env.reset()
        env.step(torch.zeros(2, 46))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_importing_the_tasks_does_not_import_mujoco() -> None:
    code = "import sys, epo_lightning.envs.allegro_kuka; sys.exit(bool({'mujoco', 'lightning'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("gains", ["stiff", "original"])
def test_random_actions_stay_finite(gains: str) -> None:
    env = make(32, gains=gains)
    env.reset()
    ended = failures = 0
    lifted = 0.0
    for move in actions(env, 200):
        result = env.step(move)
        assert result.obs.isfinite().all()
        assert result.reward.isfinite().all()
        ended += int((result.terminated | result.truncated).sum())
        failures += int(result.log["physics_resets"])
        lifted += float(torch.as_tensor(result.log["lifted"]).sum())
    assert failures == 0
    assert ended > 0


@pytest.mark.slow
def test_random_actions_stay_finite_for_long() -> None:
    env = make(128)
    env.reset()
    failures, successes = 0, 0.0
    for move in actions(env, 3000):
        result = env.step(move)
        assert result.obs.isfinite().all()
        failures += int(result.log["physics_resets"])
        successes += result.successes.sum().item()
    assert failures == 0


class Dealt(AllegroKuka):
    """Remembers the objects of everyone who was made, and ends every episode soon."""

    scales: ClassVar[list[torch.Tensor]] = []

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs, device, seed, "single_arm_regrasp", threads=1)
        self.scales.append(self.rules.scales)

    def step(self, actions: torch.Tensor) -> StepResult:
        self.rules.memory.progress.fill_(1000)
        return super().step(actions)


def test_every_seed_of_an_evaluation_meets_other_objects(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dealt, "scales", [])
    few = ("--data.eval_envs=16", "--data.eval_episodes=16", "--data.eval_seeds=3")
    outcomes = [cli("test", "--config=tiny.yaml", f"--data.env={__name__}.Dealt", *few) for _ in range(2)]
    assert [each.code for each in outcomes] == [0, 0], outcomes[0].err
    seeds = [{tuple(row) for row in scales.tolist()} for scales in Dealt.scales]
    assert len(seeds) == 6
    assert seeds[:3] == seeds[3:]  # the same for every run
    assert len(seeds[0] | seeds[1] | seeds[2]) > 40


def test_the_time_for_the_first_goal_may_be_partly_over() -> None:
    env, whole = make(4, task="single_arm_throw"), make(4, task="single_arm_throw")
    budget = env.rules.card.budget - 1
    late, first = env.reset_late(torch.tensor([0.0, 0.5, 0.99, 0.999])), whole.reset()
    clocks = [0.0, float(budget // 2), float(int(0.99 * budget)), float(int(0.999 * budget))]
    assert env.rules.memory.progress.tolist() == clocks
    differs = (late != first).any(0)
    assert differs.sum() == 1  # the clock, which the policy sees
    assert torch.equal(late[0], first[0])
    ended = [env.step(torch.zeros(4, env.spec.act_dim)).truncated.tolist() for _ in range(3)]
    left = [budget - clock for clock in clocks]
    assert ended == [[steps == step for steps in left] for step in (1.0, 2.0, 3.0)]
    assert any(ended[0])
