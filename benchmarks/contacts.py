"""Instruments of the physics report: how deep bodies are in each other, and what must not happen."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS, HAND_JOINTS, STEP_SECONDS
from epo_lightning.envs.allegro_kuka.scripted import Phase, Script
from epo_lightning.physics.mujoco import MujocoPhysics

Figures = dict[str, float | int | str]


def engine_of(env: AllegroKuka) -> MujocoPhysics:
    """The engine of an environment on the CPU."""
    assert isinstance(env.physics, MujocoPhysics)
    return env.physics


class Contacts:
    """The deepest penetrations of a run.

    Args:
        env: The environment.
        kind: "object on robot", "object on scene" (table, walls, bucket, ground) or "all".
        envs: How many of its environments are observed; None: all.
    """

    def __init__(self, env: AllegroKuka, kind: str = "all", envs: int | None = None) -> None:
        self.model, self.batch = env.physics.model, engine_of(env).batch
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
        found: np.ndarray = thing & (robot if self.kind == "object on robot" else ~robot)
        return found

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


class Watch:
    """Counts what must not happen, after every physics step of an environment.

    Args:
        env: The environment, whose engine's `step` is wrapped.
        every: Control steps between two measurements of the contacts.
        envs: Environments whose contacts are measured.
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
        physics = engine_of(self.env)
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
        physics, memory = engine_of(self.env), self.env.rules.memory
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


def refine(env: AllegroKuka, substeps: int) -> None:
    """Let `env` make more and shorter physics steps per control step, with contacts as stiff as these allow."""
    physics, step = engine_of(env), STEP_SECONDS / substeps
    physics.batch.expand("opt.timestep")[:] = step
    physics.batch.expand("geom_solref")[..., 0] = 2 * step
    physics.decimation = substeps
