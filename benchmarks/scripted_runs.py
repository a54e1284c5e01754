"""What the scripted controllers achieve, one episode for every random start, and how far an arm reaches."""

import dataclasses

import torch
from torch import Tensor

from benchmarks.contacts import Depths, Figures, refine
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS
from epo_lightning.envs.allegro_kuka.scene import DECIMATION
from epo_lightning.envs.allegro_kuka.scripted import Phase, Script
from epo_lightning.envs.allegro_kuka.scripted.errands import OVER, RIM
from epo_lightning.envs.allegro_kuka.scripted.hand import between
from epo_lightning.envs.allegro_kuka.scripted.kinematics import matrix
from epo_lightning.envs.allegro_kuka.scripted.script import arm_chain

CPU = torch.device("cpu")
LIFTED = 0.15
"""A lift: how far the object's centre must be above the place where it lay, m."""
HOLD_STEPS = 120
"""Two seconds."""
START_STEPS = 400
"""One start: the clock of regrasping, 6.7 s. The script may try again within it."""


def seen_from_hand(env: AllegroKuka) -> tuple[Tensor, Tensor]:
    """Where the object is in the frame of the first hand's wrist: (N, 3) in metres, (N, 3, 3)."""
    state = env.physics.state
    back = matrix(state.wrist[:, 0, :4].roll(1, dims=1)).transpose(1, 2)
    pos = (back @ (state.object_pos - state.palm_pos[:, 0])[..., None])[..., 0]
    return pos, back @ matrix(state.object_frame[:, :4].roll(1, dims=1))


def grasp(
    num_envs: int = 60, seed: int = 0, objects: str | None = None, forces: bool = True, substeps: int = DECIMATION
) -> Figures:
    """The script grasps, lifts and holds, on one arm, from the task's own random starts.

    Args:
        num_envs: Random starts; each is one episode of at most `START_STEPS`.
        seed: Of the starts.
        objects: Object set; None: the task's own.
        forces: Whether the task's random forces push the object.
        substeps: Physics steps per control step.
    """
    # a goal that is never reached: reaching it would replace the object
    env = AllegroKuka(num_envs, CPU, seed, "single_arm_regrasp", objects, tolerance=1e-6, final_tolerance=1e-6)
    env.rules.card = dataclasses.replace(env.rules.card, forces=forces)
    refine(env, substeps)
    env.reset()
    script = Script(env.rules, env.physics, carry=False)
    depths = Depths(env, script)
    alive, held, first_try = (torch.ones(num_envs).bool(), torch.zeros(num_envs).bool(), torch.zeros(num_envs).bool())
    steps, closures = torch.zeros(num_envs), torch.zeros(num_envs)
    bed, slip, twist = torch.zeros(num_envs), torch.full((num_envs,), torch.nan), torch.full((num_envs,), torch.nan)
    start_pos, start_rot = seen_from_hand(env)
    for _ in range(START_STEPS - 1):
        actions = script()
        phase, clock = script.pilot.phase, script.pilot.clock
        pos, rot = seen_from_hand(env)
        height = env.physics.state.object_pos[:, 2]
        closing = (phase == Phase.CLOSE) & (clock == 0)
        closures += closing & alive
        bed = torch.where(closing, height, bed)
        up = alive & (phase == Phase.CARRY) & (height - bed > LIFTED)
        begins = up & (steps == 0)
        start_pos = torch.where(begins[:, None], pos, start_pos)
        start_rot = torch.where(begins[:, None, None], rot, start_rot)
        done = up & (steps == HOLD_STEPS) & ~held
        slip = torch.where(done, (pos - start_pos).norm(dim=1), slip)
        cosine = ((rot * start_rot).sum(dim=(1, 2)) - 1) / 2
        twist = torch.where(done, cosine.clamp(-1, 1).arccos().rad2deg(), twist)
        held |= done
        first_try |= done & (closures == 1)
        steps = torch.where(up, steps + 1, torch.zeros_like(steps))
        result = env.step(actions)
        alive &= ~(result.terminated | result.truncated)
        depths.look(alive)
    env.close()
    return {
        "starts": num_envs,
        "seed": seed,
        "objects": objects or "all",
        "random forces": str(forces),
        "physics steps per control step": substeps,
        "lifted and held": int(held.sum()),
        "share": float(held.float().mean()),
        "at the first closure": int(first_try.sum()),
        "median slip mm": 1000 * float(slip.nanmedian()),
        "p90 slip mm": 1000 * float(slip[held].quantile(0.9)) if held.any() else float("nan"),
        "median turn deg": float(twist.nanmedian()),
        **depths.figures(),
    }


def bucket(num_envs: int = 60, seed: int = 0) -> Figures:
    """The script carries small objects over the bucket and lets go; one episode for each start.

    Buckets stand far and near: those count apart over whose rim the point between the fingers can come.
    """
    env = AllegroKuka(num_envs, CPU, seed, "single_arm_throw")
    env.reset()
    script = Script(env.rules, env.physics)
    depths = Depths(env, script)
    over = env.rules.memory.goal_pos - script.bases.pos[0] + torch.tensor([0.0, 0.0, RIM + OVER])
    reachable = nearest(over) < 0.02
    alive, caught = torch.ones(num_envs).bool(), torch.zeros(num_envs).bool()
    for _ in range(env.rules.card.budget - 1):
        result = env.step(script())
        caught |= alive & (result.successes > 0)
        # a caught object is put back on the table: the first attempt is over
        alive &= ~(result.terminated | result.truncated | caught)
        depths.look(alive)
    env.close()
    return {
        "starts": num_envs,
        "seed": seed,
        "caught": int(caught.sum()),
        "share": float(caught.float().mean()),
        "buckets within reach": int(reachable.sum()),
        "caught of those": int((caught & reachable).sum()),
        **depths.figures(),
    }


def nearest(points: Tensor, tries: int = 8) -> Tensor:
    """(M,) how near the point between the fingers comes to `points` (M, 3) in the base's frame, m, in any direction."""
    arm = arm_chain(between(torch.tensor([0.05]))[0].tolist())
    generator = torch.Generator().manual_seed(0)
    best = torch.full((len(points),), torch.inf)
    for _ in range(tries):
        start = arm.low + (arm.high - arm.low) * torch.rand(len(points), ARM_JOINTS, generator=generator)
        found = arm.reach(start, points, start, 60)
        best = torch.minimum(best, (arm.forward(found)[0].pos - points).norm(dim=1))
    return best


def reach() -> Figures:
    """How far one arm of the barrier task gets behind the wall, beside it: the wall is 0.4 m wide and 2 m high."""
    x, y, z = torch.arange(-0.20, 0.30, 0.02), torch.tensor([0.25, 0.30, 0.40]), torch.tensor([0.58, 0.7, 0.85, 1.0])
    world = torch.cartesian_prod(x, y, z)
    env = AllegroKuka(1, CPU, 0, "two_arm_barrier")
    base = Script(env.rules, env.physics).bases
    card = env.rules.card
    env.close()
    found = nearest((world - base.pos[0]) @ base.rot[0]) < 0.005
    return {
        "farthest x of the left hand beside the wall m": float(world[found, 0].max()),
        "nearest x of a start on the other side m": card.object_box[0][0],
        "nearest x of a goal on the other side m": card.goal_box[0][0],
    }


def barrier(num_envs: int = 60, seed: int = 0) -> Figures:
    """The script on the barrier task: goals on the object's side of the wall and behind it, one episode per start."""
    env = AllegroKuka(num_envs, CPU, seed, "two_arm_barrier")
    env.reset()
    script = Script(env.rules, env.physics)
    same = env.rules.memory.goal_pos[:, 0] * env.physics.state.object_pos[:, 0] > 0
    alive, reached = torch.ones(num_envs).bool(), torch.zeros(num_envs).bool()
    for _ in range(env.rules.card.budget - 1):
        result = env.step(script())
        reached |= alive & (result.successes > 0)
        alive &= ~(result.terminated | result.truncated | reached)
    env.close()
    return {
        "starts": num_envs,
        "seed": seed,
        "goals on the object's side": int(same.sum()),
        "reached of those": int((reached & same).sum()),
        "goals behind the wall": int((~same).sum()),
        "reached of these": int((reached & ~same).sum()),
    }
