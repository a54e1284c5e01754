"""How believable the physics is: scripted grasps, buckets and walls, things at rest, a million random steps.

Nothing is learnt here and nothing is left out: every start of a run counts.

    python benchmarks/credibility.py grasp bucket barrier reach rest      # a few minutes
    python benchmarks/credibility.py random --tasks two_arm               # a million control steps: minutes each
    python benchmarks/credibility.py grasp --seeds 0 1 2 --json grasp.json
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import mujoco
import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS, CARDS, HAND_JOINTS, STEP_SECONDS
from epo_lightning.envs.allegro_kuka.objects import half_sizes, masses
from epo_lightning.envs.allegro_kuka.scene import DECIMATION, TABLE_TOP
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

Figures = dict[str, float | int | str]


class Contacts:
    """The deepest penetrations of a run.

    Args:
        env: The environment.
        kind: "object on robot", "object on scene" (table, walls, bucket, ground) or "all".
        envs: How many of its environments are looked at; None: all.
    """

    def __init__(self, env: AllegroKuka, kind: str = "all", envs: int | None = None) -> None:
        self.model, self.batch = env.physics.model, env.physics.batch
        self.count = env.spec.num_envs if envs is None else envs
        self.data = mujoco.MjData(self.model)
        robot = {body for body in range(self.model.nbody) if self.model.body(body).name.startswith("base_")}
        root = self.model.body_rootid[self.model.geom_bodyid]
        self.robot = np.isin(root, list(robot))
        self.thing = np.arange(self.model.ngeom) == self.model.geom("object").id
        self.kind = kind
        self.deepest, self.pair = np.zeros(self.count), [""] * self.count
        self.depths: list[np.ndarray] = [np.zeros(1)]

    def look(self, where: Tensor | None = None) -> None:
        """Read all contacts of the present state, in the environments `where`, (N,) bool; None: in all."""
        for env in range(self.count) if where is None else where.nonzero().flatten().tolist():
            contact = self.batch.get_data(env, self.data).contact
            geoms = np.asarray(contact.geom).reshape(-1, 2)
            of_kind = self._of_kind(geoms)
            depth, geoms = -np.asarray(contact.dist)[of_kind], geoms[of_kind]
            if not len(depth):
                continue
            self.depths.append(depth[depth > 0])
            worst = int(depth.argmax())
            if depth[worst] > self.deepest[env]:
                bodies = self.model.geom_bodyid[geoms[worst]]
                self.deepest[env] = depth[worst]
                self.pair[env] = " - ".join(sorted(self.model.body(int(body)).name for body in bodies))

    def _of_kind(self, geoms: np.ndarray) -> np.ndarray:
        """(C,) bool, which contacts between `geoms`, (C, 2), count."""
        if self.kind == "all":
            return np.ones(len(geoms), dtype=bool)
        thing, robot = self.thing[geoms].any(axis=1), self.robot[geoms].any(axis=1)
        return thing & (robot if self.kind == "object on robot" else ~robot)

    def figures(self, when: str) -> Figures:
        """Deepest penetration, its 99 % quantile over all contacts (mm), and how many environments exceed 5 mm."""
        worst = int(self.deepest.argmax())
        return {
            f"deepest mm, {when}": 1000 * float(self.deepest[worst]),
            f"between, {when}": self.pair[worst],
            f"p99 mm, {when}": 1000 * float(np.quantile(np.concatenate(self.depths), 0.99)),
            f"environments deeper than 5 mm, {when}": int((self.deepest > 0.005).sum()),
        }


class Depths:
    """Penetrations of a scripted run: in the start, while the object falls on the table, and once the hand comes down.

    Args:
        env: The environment, just reset.
        script: The script that acts in it.
    """

    def __init__(self, env: AllegroKuka, script: Script) -> None:
        self.script = script
        self.start, self.fall = Contacts(env), Contacts(env)
        self.hand, self.scene = Contacts(env, "object on robot"), Contacts(env, "object on scene")
        self.taken = torch.zeros(env.spec.num_envs).bool()
        self.start.look()

    def look(self, alive: Tensor) -> None:
        """After every step, in the environments `alive`, (N,) bool, whose first episode goes on."""
        self.taken |= self.script.pilot.phase >= Phase.DOWN
        self.fall.look(alive & ~self.taken)
        self.hand.look(alive & self.taken)
        self.scene.look(alive & self.taken)

    def figures(self) -> Figures:
        """The figures of all four."""
        return (
            self.start.figures("start as drawn")
            | self.fall.figures("until the hand comes down")
            | self.hand.figures("then object on robot")
            | self.scene.figures("then object on scene")
        )


def seen_from_hand(env: AllegroKuka) -> tuple[Tensor, Tensor]:
    """Where the object is in the frame of the first hand's wrist: (N, 3) in metres, (N, 3, 3)."""
    state = env.physics.state
    back = matrix(state.wrist[:, 0, :4].roll(1, dims=1)).transpose(1, 2)
    pos = (back @ (state.object_pos - state.palm_pos[:, 0])[..., None])[..., 0]
    return pos, back @ matrix(state.object_frame[:, :4].roll(1, dims=1))


def refine(env: AllegroKuka, substeps: int) -> None:
    """Let `env` make more and shorter physics steps per control step, with contacts as stiff as these allow."""
    physics, step = env.physics, STEP_SECONDS / substeps
    physics.batch.expand("opt.timestep")[:] = step
    physics.batch.expand("geom_solref")[..., 0] = 2 * step
    physics.decimation = substeps


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
    script = Script(env, carry=False)
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
    script = Script(env)
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
    base = Script(env).bases
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
    script = Script(env)
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


def rest(num_envs: int = 64, seconds: float = 10.0) -> Figures:
    """Objects that lie flat on the table while the robot stands still and nothing pushes them."""
    env = AllegroKuka(num_envs, CPU, 0, "two_arm", "all")
    env.reset()
    physics, half = env.physics, half_sizes(env.rules.scales).float()
    everyone, rules = torch.arange(num_envs), env.rules
    hold = rules.default.clamp(rules.low, rules.high).expand(num_envs, -1)
    spot = torch.stack([torch.zeros(num_envs), torch.zeros(num_envs), TABLE_TOP + half[:, 2]], dim=1)
    physics.place_object(everyone, spot, torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(num_envs, 4))
    for _ in range(60):
        physics.step(hold)
    begin, mass = physics.state.object_pos.clone(), masses(env.rules.scales).float()
    most, contacts = torch.zeros(num_envs), Contacts(env)
    for _ in range(round(seconds / STEP_SECONDS)):
        physics.step(hold)
        most = torch.maximum(most, mass * physics.state.object_frame[:, 4:7].square().sum(dim=1) / 2)
    contacts.look()
    drift = (physics.state.object_pos - begin).norm(dim=1)
    stick = (physics.state.joint_pos - hold).abs().max()
    figures: Figures = {
        "objects": num_envs,
        "seconds": seconds,
        "largest kinetic energy J": float(most.max()),
        "largest drift mm": 1000 * float(drift.max()),
        "robot off its targets rad": float(stick),
        **contacts.figures("at rest"),
    }
    env.close()
    return figures


class Watch:
    """Counts what must not happen, after every physics step of an environment.

    Args:
        env: The environment, whose engine's `step` is wrapped.
        every: Control steps between two looks at the contacts.
        envs: Environments whose contacts are looked at.
    """

    def __init__(self, env: AllegroKuka, every: int = 20, envs: int = 32) -> None:
        self.env, self.every, self.contacts = env, every, Contacts(env, envs=min(envs, env.spec.num_envs))
        self.steps = self.blown_up = self.warnings = self.not_finite = 0
        self.beyond = torch.zeros(env.rules.card.joints)
        self.often, self.lowest, self.fastest = 0, torch.inf, 0.0
        self.limits = torch.from_numpy(env.physics.model.jnt_range[: env.rules.card.joints]).float().T
        step = env.physics.step

        def watched(targets: Tensor, object_force: Tensor | None = None) -> None:
            step(targets, object_force)
            self.look()

        env.physics.step = watched  # type: ignore[method-assign]

    def look(self) -> None:
        """Count."""
        physics = self.env.physics
        state, (low, high) = physics.state, self.limits
        self.steps += 1
        self.blown_up += int(physics.blown_up.sum())
        self.warnings += int(physics.batch.warning[..., 1].sum())
        self.not_finite += sum(int((~field.isfinite()).sum()) for field in state)
        over = torch.maximum(low - state.joint_pos, state.joint_pos - high)
        self.beyond = torch.maximum(self.beyond, over.amax(dim=0))
        self.often += int((over > 0.05).sum())
        self.lowest = min(self.lowest, float(state.object_pos[:, 2].min()))
        self.fastest = max(self.fastest, float(state.joint_vel.abs().max()))
        if self.steps % self.every == 0:
            self.contacts.look()

    def figures(self) -> Figures:
        """All counts and extremes of the run."""
        physics, memory = self.env.physics, self.env.rules.memory
        beyond = self.beyond.unflatten(0, (-1, ARM_JOINTS + HAND_JOINTS))
        arm, fingers = beyond[:, :ARM_JOINTS], beyond[:, ARM_JOINTS:]
        goal = torch.from_numpy(physics.batch.bind("mocap_pos")[:, 0]).float()
        due = memory.goal_reached
        return {
            "control steps": self.steps * self.env.spec.num_envs,
            "blown up": self.blown_up,
            "warnings": self.warnings,
            "not finite": self.not_finite,
            "arm beyond limits rad": float(arm.max()),
            "finger beyond limits rad": float(fingers.max()),
            "share of joint readings 0.05 rad beyond": self.often / (self.steps * physics.state.joint_pos.numel()),
            "fastest joint rad/s": self.fastest,
            "lowest object m": self.lowest,
            "goal marker off mm": 1000 * float((goal - memory.goal_pos)[~due].abs().max()),
            **self.contacts.figures(f"every {self.every}th step of {self.contacts.count}"),
        }


def random_steps(
    task: str, control_steps: int = 1_000_000, num_envs: int = 512, seed: int = 0, substeps: int = DECIMATION
) -> Figures:
    """Random actions, uniform and independent at every step."""
    env = AllegroKuka(num_envs, CPU, seed, task)
    refine(env, substeps)
    generator = torch.Generator().manual_seed(seed)
    env.reset()
    watch, begin = Watch(env), time.process_time()
    for _ in range(-(-control_steps // num_envs)):
        env.step(2 * torch.rand(num_envs, env.spec.act_dim, generator=generator) - 1)
    speed = watch.steps * num_envs / (time.process_time() - begin)
    figures: Figures = {"task": task, "control steps per second of CPU": speed, **watch.figures()}
    env.close()
    return figures


def main() -> None:
    """Run what is asked for, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["grasp", "bucket", "barrier", "reach", "rest", "random"])
    parser.add_argument("--starts", type=int, default=60, help="random starts of a scripted run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the scripted runs")
    parser.add_argument("--objects", default=None, help="object set of the grasps; default: the task's own")
    parser.add_argument("--no-forces", action="store_true", help="grasp without the task's random forces")
    parser.add_argument(
        "--substeps", type=int, default=DECIMATION, help="physics steps per control step (grasp, random)"
    )
    parser.add_argument("--tasks", nargs="+", choices=list(CARDS), default=list(CARDS), help="scenes of the random run")
    parser.add_argument("--steps", type=int, default=1_000_000, help="control steps of the random run, per scene")
    parser.add_argument("--num-envs", type=int, default=512, help="environments of the random run")
    parser.add_argument("--json", type=Path, default=None, help="where to write all figures")
    args = parser.parse_args()
    every: list[Figures] = []

    def report(title: str, figures: Figures) -> None:
        every.append({"what": title} | figures)
        print(f"\n{title}")
        for name, value in figures.items():
            print(f"  {name:<58} {value:.4g}" if isinstance(value, float) else f"  {name:<58} {value}", flush=True)
        if args.json is not None:
            args.json.write_text(json.dumps(every, indent=2) + "\n")

    for what in args.what:
        if what == "random":
            for task in args.tasks:
                report("random", random_steps(task, args.steps, args.num_envs, substeps=args.substeps))
        elif what in ("reach", "rest"):
            report(what, reach() if what == "reach" else rest())
        for seed in args.seeds if what in ("grasp", "bucket", "barrier") else ():
            if what == "grasp":
                report(what, grasp(args.starts, seed, args.objects, not args.no_forces, args.substeps))
            else:
                report(what, (bucket if what == "bucket" else barrier)(args.starts, seed))


if __name__ == "__main__":
    main()
