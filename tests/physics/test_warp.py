"""MuJoCo Warp engine on the CPU: readout, objects, forces, resets, failures, room, saved states.

The first run on a machine compiles kernels for half a minute; later ones take seconds.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import pytest
import torch

from epo_lightning.envs.allegro_kuka.cards import card
from epo_lightning.envs.allegro_kuka.objects import half_sizes, masses, object_scales
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import build_scene
from epo_lightning.physics.base import FACTORS
from epo_lightning.physics.mujoco import MujocoPhysics

pytest.importorskip("mujoco_warp")
from epo_lightning.physics.warp import CHECK_EVERY, WarpPhysics

CPU = torch.device("cpu")
UPRIGHT = torch.tensor([0.0, 0.0, 0.0, 1.0])
G = 9.81


@dataclass
class Setup:
    """Both engines with the same scene and objects, and what they were made of."""

    physics: WarpPhysics
    reference: MujocoPhysics
    default: torch.Tensor
    mass: torch.Tensor
    cuboids: tuple[torch.Tensor, torch.Tensor]

    def put(
        self,
        pos: tuple[float, float, float] = (0.0, 0.0, 0.63),
        joints: torch.Tensor | None = None,
        ids: torch.Tensor | None = None,
    ) -> None:
        """Reset to the default pose with the object at `pos`, upright."""
        ids = torch.arange(self.physics.num_envs) if ids is None else ids
        joints, rows = self.default if joints is None else joints, len(ids)
        start = (joints.expand(rows, -1), torch.zeros(rows, len(self.default)))
        for engine in (self.physics, self.reference):
            engine.reset(ids, *start, torch.tensor(pos).expand(rows, 3), UPRIGHT.expand(rows, 4))

    def run(self, steps: int, seed: int = 0) -> torch.Tensor:
        """All that can be read after `steps` with a trembling hand."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            noise = torch.randn(self.physics.num_envs, len(self.default), generator=generator)
            self.physics.step(self.default + 0.3 * noise, torch.full((self.physics.num_envs, 3), 0.05))
        return torch.cat([field.flatten(1) for field in self.physics.state], dim=1).clone()


def setup(num_envs: int = 4, task: str = "single_arm_regrasp", **room: Any) -> Setup:
    rules = card(task)
    scales = object_scales("all", num_envs, 0)
    model = build_scene(rules, GAINS["stiff"])
    arguments = (model, num_envs, rules.arms, half_sizes(scales), masses(scales))
    default = torch.tensor(rules.arm_pose + (0.0,) * 16).repeat(rules.arms)
    physics = WarpPhysics(*arguments, CPU, **room)
    reference = MujocoPhysics(*arguments, threads=1)
    return Setup(physics, reference, default, masses(scales).float(), arguments[3:])


def test_reads_what_the_other_engine_reads() -> None:
    s = setup()
    generator = torch.Generator().manual_seed(0)
    joints = s.default + 0.2 * torch.randn(4, 23, generator=generator)
    speed, pos = torch.randn(4, 23, generator=generator), torch.rand(4, 3, generator=generator)
    quat = torch.nn.functional.normalize(torch.randn(4, 4, generator=generator))
    for engine in (s.physics, s.reference):
        engine.reset(torch.arange(4), joints, speed, pos, quat)
    for name, ours, theirs in zip(s.physics.state._fields, s.physics.state, s.reference.state, strict=True):
        assert ours.shape == theirs.shape, name
        assert torch.allclose(ours, theirs, atol=3e-6), name
    assert s.physics.state.joint_vel.abs().max() > 1


def test_has_the_constants_that_mujoco_derives_for_each_object() -> None:
    s = setup(6)
    for name in ("geom_size", "geom_rbound", "geom_aabb", "body_mass", "body_inertia", "body_subtreemass"):
        ours = torch.from_numpy(getattr(s.physics._worlds.model, name).numpy()).flatten(1)
        theirs = torch.from_numpy(s.reference.batch.expanded(name)).float().flatten(1)
        assert torch.equal(ours, theirs), name
        assert len(ours.unique(dim=0)) > 1, name
    for name in ("dof_damping", "dof_invweight0", "body_invweight0"):
        ours = torch.from_numpy(getattr(s.physics._worlds.model, name).numpy()).flatten(1)
        assert torch.equal(ours, torch.from_numpy(s.reference.batch.expanded(name)).float().flatten(1)), name


def test_varies_what_mujoco_varies() -> None:
    plain = setup(4)
    arguments = plain.reference.model, 4, 1, *plain.cuboids
    physics = WarpPhysics(*arguments, CPU, varied=FACTORS)
    reference = MujocoPhysics(*arguments, threads=1, varied=FACTORS)
    s = Setup(physics, reference, plain.default, plain.mass, plain.cuboids)
    factors = {name: torch.tensor([0.5, 1.7]) for name in FACTORS}
    for engine in (physics, reference):
        engine.vary(torch.tensor([1, 3]), factors)
    own = physics._worlds.own_fields()
    assert own.keys() >= {"geom_friction", "body_mass", "actuator_gainprm", "actuator_biasprm"}
    for name, ours in own.items():
        theirs = torch.tensor(reference.batch.expanded(name)).float()
        torch.testing.assert_close(ours.flatten(1), theirs.flatten(1), rtol=1e-6, atol=0)
    assert physics.snapshot(3)[0].body_mass[reference.model.body("object").id] == pytest.approx(1.7 * plain.mass[3])

    for each in (s, plain):
        each.put(pos=(0.0, 0.0, 3.0))
        for engine in (each.physics, each.reference):
            engine.step(each.default + 0.1, torch.full((4, 3), 0.1))
    speeds = s.physics.state.joint_vel[:, 0]
    assert torch.allclose(s.physics.state.joint_vel, s.reference.state.joint_vel, atol=1e-4)
    assert torch.allclose(speeds[[0, 2]], plain.physics.state.joint_vel[[0, 2], 0], atol=1e-5)
    assert speeds[1] < 0.8 * speeds[0] < speeds[3]  # a weak and a strong drive
    # v = F / (factor m) t
    expected = 0.1 / (plain.mass * torch.tensor([1.0, 0.5, 1.0, 1.7])) / 60
    assert torch.allclose(s.physics.state.object_frame[:, 4], expected, rtol=1e-3)


def test_friction_decides_what_slides() -> None:
    plain = setup(4)
    half, mass = torch.full((4, 3), 0.025), torch.full((4,), 0.05)
    arguments = plain.reference.model, 4, 1, half, mass
    engines = (
        WarpPhysics(*arguments, CPU, varied=("friction",)),
        MujocoPhysics(*arguments, threads=1, varied=("friction",)),
    )
    # a cube on the table's top at 0.53 m, pushed by 0.8 m g: a friction of 0.5 does not hold it, one of 1 and more does
    pos, push = torch.tensor([0.1, 0.0, 0.555]).expand(4, 3), torch.tensor([0.0, 0.8 * G * 0.05, 0.0]).expand(4, 3)
    for engine in engines:
        engine.vary(torch.arange(4), {"friction": torch.tensor([0.5, 1.5, 0.5, 1.0])})
        joints = plain.default.expand(4, -1)
        engine.reset(torch.arange(4), joints, torch.zeros(4, 23), pos, UPRIGHT.expand(4, 4))
        for step in range(18):
            engine.step(joints, push if step >= 6 else None)
        # (F / m - mu g) t^2 / 2 = 0.3 g (0.2 s)^2 / 2 = 59 mm
        moved = engine.state.object_pos[:, 1]
        assert torch.allclose(moved[[0, 2]], torch.tensor(0.059), atol=0.01), type(engine)
        assert moved[[1, 3]].abs().max() < 0.005, type(engine)


def test_force_and_gravity_move_the_object_and_a_push_lasts_one_step() -> None:
    s = setup(3)
    s.put(pos=(0.0, 0.0, 3.0))
    force = torch.tensor([[0.3, 0.0, 0.0], [0.0, -0.3, 0.0], [0.0, 0.0, 0.0]])
    s.physics.push(2, torch.tensor([0.6, 0.0, 0.0]))
    for _ in range(12):
        s.physics.step(s.default.expand(3, -1), force)
    # v = F / m t - g t, the push on the last one for 1/60 s
    speed = force / s.mass[:, None] * 0.2 - torch.tensor([0.0, 0.0, G * 0.2])
    speed[2, 0] = 0.6 / s.mass[2] / 60
    assert torch.allclose(s.physics.state.object_frame[:, 4:7], speed, rtol=1e-4, atol=2e-3)
    before = s.physics.state.object_frame[:, 4].clone()
    s.physics.step(s.default.expand(3, -1))  # no force any more
    assert torch.allclose(s.physics.state.object_frame[:, 4], before, atol=1e-5)


def test_state_stays_the_same_tensors() -> None:
    s = setup()
    s.put()
    places = [field.data_ptr() for field in s.physics.state]
    s.run(2)
    s.put(ids=torch.tensor([1]))
    s.physics.load_state_dict(s.physics.state_dict())
    assert [field.data_ptr() for field in s.physics.state] == places


def test_reset_touches_only_its_environments_and_forgets() -> None:
    s, fresh = setup(3), setup(3)
    s.put(pos=(0.0, 0.0, 0.56))
    s.run(20)
    before = [field.clone() for field in s.physics.state]
    s.physics.place_goal(torch.tensor([1]), torch.ones(1, 3), UPRIGHT[None])
    s.physics.place_object(torch.tensor([0]), torch.tensor([[0.0, 0.0, 2.0]]), UPRIGHT[None])
    s.put(ids=torch.tensor([1]))
    for old, new in zip(before, s.physics.state, strict=True):
        assert torch.equal(old[[0, 2]], new[[0, 2]])  # where the object went is told by the next step
    fresh.put()
    assert torch.equal(s.physics.state_dict()["mocap_pos"][1], fresh.physics.state_dict()["mocap_pos"][1])
    assert torch.equal(s.run(5)[1], fresh.run(5)[1])  # to the bit: no warm start, force or contact is left
    assert s.physics.state.object_pos[0, 2] > 1.9


@pytest.mark.parametrize(
    ("field", "poison"),
    [
        ("qpos", float("nan")),
        ("qpos", float("inf")),
        ("qpos", 1e12),
        ("qvel", float("nan")),
        ("qvel", 5000.0),
        ("force", float("nan")),
    ],
)
def test_a_failure_is_told_stays_at_home_and_a_reset_cures_it(
    field: str, poison: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, dirty = setup(), setup()
    for s in (clean, dirty):
        s.put()
        s.run(5)
    force = torch.zeros(4, 3)
    if field == "force":
        force[2, 0] = poison
    else:
        dirty.physics._kept[field][2, 25] = poison  # the object's height or speed
    clean.physics.step(clean.default.expand(4, -1))
    dirty.physics.step(clean.default.expand(4, -1), force)
    assert dirty.physics.blown_up.tolist() == [False, False, True, False]
    assert not clean.physics.blown_up.any()
    states = [torch.cat([f.flatten(1) for f in s.physics.state], dim=1) for s in (clean, dirty)]
    assert states[1].isfinite().all()
    assert torch.equal(states[0][[0, 1, 3]], states[1][[0, 1, 3]])
    for s in (clean, dirty):
        s.put(ids=torch.tensor([2]))
    assert torch.equal(clean.run(10), dirty.run(10))
    assert not dirty.physics.blown_up.any()
    assert not list(tmp_path.iterdir())


def test_too_little_room_is_told_with_the_argument_to_raise(recwarn: pytest.WarningsRecorder) -> None:
    s = setup(2, constraints=2)
    s.put(pos=(0.0, 0.0, 0.54))
    with pytest.warns(UserWarning, match=r"data\.env\.init_args\.constraints_per_world is too small: 2 .*; try 4"):
        s.run(CHECK_EVERY)
    s = setup(2, contacts=1)
    s.put(pos=(0.0, 0.0, 0.54))
    s.run(2)
    with pytest.warns(UserWarning, match=r"data\.env\.init_args\.contacts_per_world is too small: 1 .*; try 2"):
        s.physics.state_dict()
    recwarn.clear()
    s = setup(2)
    s.put(pos=(0.0, 0.0, 0.54))
    s.run(CHECK_EVERY)
    s.physics.state_dict()
    assert not recwarn.list


def test_saved_state_continues_to_the_bit() -> None:
    first, second = setup(5), setup(5)
    first.put(pos=(0.0, 0.0, 0.56))
    first.run(30)
    saved = first.physics.state_dict()
    assert (saved["qacc_warmstart"] != 0).any()
    second.physics.load_state_dict(saved)
    for ours, theirs in zip(first.physics.state, second.physics.state, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(first.run(30, seed=1), second.run(30, seed=1))


def test_wrong_arguments_and_states_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.num_envs must be 3"):
        setup(2).physics.load_state_dict(setup(3).physics.state_dict())
    small = setup(2)
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.task .* has 53 positions .*, this one 30"):
        small.physics.load_state_dict({"qpos": torch.zeros(2, 53)})
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.contacts_per_world must be at least 1; got 0"):
        setup(2, contacts=0)
    with pytest.raises(ValueError, match=r"data\.env\.init_args\.physics must be mujoco on mps"):
        WarpPhysics(small.physics.model, 2, 1, torch.ones(2, 3), torch.ones(2), torch.device("mps"))


def test_snapshot_is_the_environment_in_mujocos_form() -> None:
    s = setup(5)
    s.put()
    s.run(5)
    goal = torch.tensor([[0.1, 0.2, 1.5]])
    s.physics.place_goal(torch.tensor([4]), goal, torch.tensor([[0.6, 0.0, 0.0, 0.8]]))
    model, data = s.physics.snapshot(4)
    assert model.body("object").mass[0] == pytest.approx(s.mass[4].item())
    assert torch.allclose(torch.from_numpy(data.body("object").xpos).float(), s.physics.state.object_pos[4], atol=1e-6)
    assert torch.allclose(
        torch.from_numpy(data.site("index_0").xpos).float(), s.physics.state.tip_pos[4, 0, 0], atol=1e-6
    )
    assert data.body("goal").xpos.tolist() == pytest.approx(goal[0].tolist())
    assert data.body("goal").xquat.tolist() == pytest.approx([0.8, 0.6, 0, 0])
    own, other = model.geom("object").size, s.physics.snapshot(0)[0].geom("object").size
    assert own.tolist() == s.reference.batch.get_model(4).geom("object").size.tolist()
    assert own.tolist() != other.tolist()
    mujoco.mj_forward(model, data)


def test_without_the_package_one_line_tells_what_to_install() -> None:
    code = """
import sys, torch
sys.modules["mujoco_warp"] = None
from epo_lightning.envs.allegro_kuka import AllegroKuka
assert "warp" not in sys.modules
AllegroKuka(2, torch.device("cpu"), 0, task="single_arm_regrasp")
assert "warp" not in sys.modules
try:
    AllegroKuka(2, torch.device("cpu"), 0, physics="warp")
except ValueError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.count("\n") == 1
    assert out.startswith(
        "data.env.init_args.physics: warp needs MuJoCo Warp: pip install 'epo-lightning[warp]' (import of mujoco_warp"
    )
