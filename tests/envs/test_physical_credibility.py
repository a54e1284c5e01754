"""Is the physics believable? By hand: falling, pushing, sliding, resting. By script: grasps, buckets. For long: noise.

The measuring code is that of `benchmarks/credibility.py`, whose figures stand in `docs/physics.md`.
"""

import mujoco
import pytest
import torch

from benchmarks.contacts import Contacts, Figures, Watch
from benchmarks.credibility import random_steps, rest
from benchmarks.scripted_runs import bucket, grasp, nearest, reach
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import CARDS, TABLE_TOP
from epo_lightning.envs.allegro_kuka.scripted.script import arm_chain
from tests.support.physics import mujoco_of

CPU = torch.device("cpu")
FLAT = torch.tensor([0.0, 0.0, 0.0, 1.0])
GRAVITY, STEP = 9.81, 1 / 120


def cubes(num_envs: int, pos: tuple[float, float, float]) -> AllegroKuka:
    """Cubes of 50 g at `pos`, and a robot that stands still."""
    env = AllegroKuka(num_envs, CPU, 0, "single_arm_regrasp", "cube", threads=1)
    env.reset()
    env.physics.place_object(torch.arange(num_envs), torch.tensor(pos).expand(num_envs, 3), FLAT.expand(num_envs, 4))
    return env


def numbers(figures: Figures) -> dict[str, float]:
    """Those figures that are no words."""
    return {name: figure for name, figure in figures.items() if not isinstance(figure, str)}


def run(env: AllegroKuka, steps: int, force: torch.Tensor | None = None) -> None:
    hold = env.rules.default.clamp(env.rules.low, env.rules.high).expand(env.spec.num_envs, -1)
    for _ in range(steps):
        env.physics.step(hold, force)


# ----------------------------------------------------------------------------------------------------------- by hand


def test_a_free_fall_is_the_integrators_own_parabola() -> None:
    env = cubes(2, (1.5, -1.5, 2.5))
    run(env, 30)
    # v += -g h, then z += v h, n times: z = z0 - g h^2 n (n + 1) / 2;  the true parabola lies g h t / 2 = 2 cm above
    n = 60
    fallen = 2.5 - env.physics.state.object_pos[0, 2].item()
    assert fallen == pytest.approx(GRAVITY * STEP**2 * n * (n + 1) / 2, abs=1e-5)
    assert fallen == pytest.approx(GRAVITY * 0.5**2 / 2 + GRAVITY * STEP * 0.5 / 2, abs=1e-4)
    assert env.physics.state.object_pos[0, :2].tolist() == pytest.approx([1.5, -1.5], abs=1e-7)
    assert env.physics.state.object_frame[0, 6].item() == pytest.approx(-GRAVITY * 0.5, abs=1e-4)
    assert env.physics.state.object_frame[0, 7:].abs().max() < 1e-9
    env.close()


def test_a_force_moves_the_object_and_spin_decays() -> None:
    env = cubes(2, (1.5, -1.5, 2.5))
    mujoco_of(env).batch.bind("qvel")[:, 26:29] = [0.0, 0.0, 4.0]
    run(env, 30, torch.tensor([[0.02, 0.0, 0.0], [0.0, 0.0, 0.05 * GRAVITY]]))
    velocity = env.physics.state.object_frame[:, 4:7]
    assert velocity[0, 0].item() == pytest.approx(0.02 / 0.05 * 0.5, rel=1e-4)  # v = F / m t
    assert velocity[1].abs().max() < 1e-5  # its weight: it floats
    # torque -c I w with c = 0.5 / s: w = 4 exp(-c t)
    assert env.physics.state.object_frame[:, 9].tolist() == pytest.approx([4 * 0.7788] * 2, rel=3e-3)
    env.close()


def test_friction_holds_below_its_cone_and_gives_way_beyond() -> None:
    env = cubes(3, (0.1, -0.12, TABLE_TOP + 0.025))
    run(env, 60)
    before = env.physics.state.object_pos[:, 0].clone()
    weight = 0.05 * GRAVITY  # friction 1: as much sideways
    run(env, 60, torch.tensor([[0.5 * weight, 0, 0], [-0.9 * weight, 0, 0], [-1.2 * weight, 0, 0]]))
    moved = 1000 * (env.physics.state.object_pos[:, 0] - before)
    assert moved[:2].abs().max() < 3.0
    assert moved[2] < -80.0  # (1.2 - 1) g t^2 / 2 = 0.98 m without an edge; it leaves
    env.close()


def test_objects_rest_where_they_lie() -> None:
    figures = numbers(rest(num_envs=16, seconds=2.0))
    assert figures["largest kinetic energy J"] < 1e-9
    assert figures["largest drift mm"] < 0.01
    assert figures["robot off its targets rad"] < 1e-3
    assert figures["deepest mm, at rest"] < 0.5


def test_the_measure_finds_a_known_penetration() -> None:
    env = cubes(2, (0.1, -0.1, TABLE_TOP + 0.025))
    env.physics.place_object(torch.tensor([1]), torch.tensor([[0.1, -0.1, TABLE_TOP + 0.022]]), FLAT[None])
    mujoco_of(env).batch.forward(stage=mujoco.mjtStage.mjSTAGE_VEL)
    every, scene, robot = Contacts(env), Contacts(env, "object on scene"), Contacts(env, "object on robot")
    for contacts in (every, scene, robot):
        contacts.look()
    assert every.deepest.tolist() == pytest.approx([0.0, 0.003], abs=1e-6)
    assert scene.deepest.tolist() == pytest.approx([0.0, 0.003], abs=1e-6)
    assert robot.deepest.tolist() == [0, 0]
    assert every.pair[1] == "object - world"
    env.close()


def test_the_watch_sees_what_must_not_happen() -> None:
    env = AllegroKuka(3, CPU, 0, "single_arm_regrasp", threads=1)
    env.reset()
    watch = Watch(env, every=1)
    env.step(torch.zeros(3, 23))
    good = numbers(watch.figures())
    assert (good["blown up"], good["warnings"], good["not finite"], good["control steps"]) == (0, 0, 0, 3)
    mujoco_of(env).batch.bind("qpos")[1, 8] = 2.5  # a finger bent backwards
    mujoco_of(env).batch.bind("qpos")[2, 8] = float("nan")
    env.step(torch.zeros(3, 23))
    bad = numbers(watch.figures())
    assert bad["blown up"] == 1
    assert bad["warnings"] >= 1
    assert bad["finger beyond limits rad"] > 0.1
    env.close()


def test_one_arm_does_not_reach_round_the_wall() -> None:
    figures = numbers(reach())
    # the wall's middle is at x = 0; the object must come from x > 0.25 on one side to x < -0.55 on the other
    assert -0.15 < figures["farthest x of the left hand beside the wall m"] < 0.05
    # and the measure itself: the palm's own place is reached, a point at 1.3 m is not
    arm = arm_chain((0.055, 0.009, 0.08))
    known, _, _ = arm.forward(torch.tensor([[-1.2, 0.7, 0.3, 1.2, 0.1, 1.0, 2.0]]))
    far = torch.tensor([[0.0, -1.3, 0.6]])
    near = nearest(torch.cat([known.pos, far]))
    assert near[0] < 0.01
    assert near[1] > 0.1


# --------------------------------------------------------------------------------------------- by script, and for long


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_script_grasps_lifts_and_holds(seed: int) -> None:
    figures = numbers(grasp(60, seed))
    assert figures["share"] >= 0.60
    assert figures["median slip mm"] < 2.0
    assert figures["deepest mm, then object on robot"] < 5.0


@pytest.mark.slow
def test_the_script_drops_into_the_bucket() -> None:
    figures = numbers(bucket(60, 0))
    assert figures["caught"] >= 12
    assert figures["caught of those"] >= 0.5 * figures["buckets within reach"]


@pytest.mark.slow
@pytest.mark.parametrize("task", list(CARDS))
@pytest.mark.timeout(3000)
def test_a_million_random_steps(task: str) -> None:
    figures = numbers(random_steps(task))
    assert figures["control steps"] >= 1_000_000
    assert figures["blown up"] == 0
    assert figures["warnings"] == 0
    assert figures["not finite"] == 0
    assert figures["goal marker off mm"] == 0
    assert figures["arm beyond limits rad"] < 0.25
    assert figures["share of joint readings 0.05 rad beyond"] < 0.04
    assert figures["lowest object m"] > -0.5
