"""`AllegroKuka`: the tasks as a vectorised environment, on MuJoCo's CPU threads or on a GPU.

Shape legend: N environments, O observation entries, D joints = action entries.

Two conventions differ from the original implementation, the numbers do not. (1) Episodes that end are reset within the
step that ends them, not at the beginning of the next one; `obs` is then the first observation of the new episode, whose
running minima, as before, begin with the first step. A goal that is reached in mid-episode is replaced at the beginning
of the next step: the observation after a success still shows the old goal. (2) Ends are of two kinds: `terminated` when
the object has fallen below z = 0.10 m, a fingertip is too far away (single-arm reorientation) or the simulation blew
up; `truncated` when the time for a goal is over or 50 goals are reached. The original cuts the return in both cases.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import Symmetry
from epo_lightning.envs.allegro_kuka.cards import STEP_SECONDS, variant
from epo_lightning.envs.allegro_kuka.curriculum import Curriculum
from epo_lightning.envs.allegro_kuka.draws import Drawn, Draws
from epo_lightning.envs.allegro_kuka.mirror import mirror_map
from epo_lightning.envs.allegro_kuka.objects import half_sizes, masses, object_scales, object_shapes, reach
from epo_lightning.envs.allegro_kuka.obstacles import Block, check_obstacles
from epo_lightning.envs.allegro_kuka.privileged import GROUP, SEEN, privileged_dim
from epo_lightning.envs.allegro_kuka.randomization import UNITS, Randomization, check_randomization
from epo_lightning.envs.allegro_kuka.reward import exposed
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scripted import Script
from epo_lightning.envs.allegro_kuka.signals import signals
from epo_lightning.envs.allegro_kuka.task import MAX_SUCCESSES, Rules
from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv, require_reward_parameters
from epo_lightning.envs.signals import Signals
from epo_lightning.envs.threads import OneThread
from epo_lightning.learner.observations import Group
from epo_lightning.limits import Mistake
from epo_lightning.physics.base import FACTORS, PhysicsState, WantedThreads
from epo_lightning.physics.engines import choose_engine
from epo_lightning.physics.rows import put, take

if TYPE_CHECKING:
    from epo_lightning.physics.drawing import Marker, SceneDrawing

_PLACES = {name: place for place, name in enumerate(UNITS)}


class AllegroKuka(VectorEnv):
    """KUKA iiwa 7 arms with Allegro hands move cuboids to goals, at 60 Hz.

    Args:
        num_envs: N, environments on this rank.
        device: Where tensors are handed over; physics and rules run on the CPU, or there with `physics: warp`.
        seed: Seed of resets, goals and random forces, and of which environment has which object.
        task: One of two_arm, two_arm_hole, two_arm_barrier, two_arm_partition, two_arm_regrasp,
            single_arm_reorient, single_arm_regrasp, single_arm_throw.
        objects: Object set: all (947 cuboids and sticks), small (654), big (248), sticks (45) or cube; or a list of own
            shapes, each three scale factors of a 5 cm cube; null: the task's own set (small for throwing, else all).
        obstacles: What stands on the table, in place of the task's own obstacles; null: those; []: nothing.
        observe_obstacles: Whether the observation tells position, orientation and velocities of the obstacles that can
            be pushed (13 entries each).
        tolerance: First tolerance in metres; keypoints must come within 1.5 times this distance of the goal's. A run
            that is resumed with another one begins its curriculum anew.
        final_tolerance: Where the curriculum stops shrinking it, in metres.
        curriculum_interval: Steps that pass at least between two reductions of the tolerance (by 10 % each, once the
            last episodes of all environments brought three successes on average).
        arm_speed: Speed limit of the targets of arm joints, rad/s; null: the task's own (one arm: 10; two arms: none).
        gains: Joint drives: stiff (tuned for firm grasps) or original (the original stiffness 40 and damping 5: soft).
        threads: CPU threads of `physics: mujoco`; null: the cores this process may use, shared by a machine's ranks;
            auto: what a measurement of a second finds best when a training begins. Results do not depend on it.
        physics: Engine: mujoco (CPU threads) or warp (MuJoCo Warp, for NVIDIA GPUs; needs the extra [warp]).
        contacts_per_world: Room that `physics: warp` keeps for contacts, per environment on average; null: 48.
        constraints_per_world: Room that `physics: warp` keeps for rows of constraints in each environment; null: 160.
        randomization: Ranges of what every environment draws anew at the beginning of an episode, such as {mass: [0.5,
            2.0]}: friction, mass, gains (or stiffness, damping), latency, observation_noise, action_noise; null: none.
        privileged: Whether a critic of its own sees the group `critic`: the object's true state, forces, the tolerance
            and more that a policy does not (see docs/allegro_kuka.md).

    Raises:
        Mistake: When an argument is out of range or names nothing known.
    """

    curriculum_units: Mapping[str, str] = {"tolerance": "m"}

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        task: str = "two_arm",
        objects: list[tuple[float, float, float]] | str | None = None,
        obstacles: list[Block] | None = None,
        observe_obstacles: bool = False,
        tolerance: float = 0.075,
        final_tolerance: float = 0.01,
        curriculum_interval: int = 300,
        arm_speed: float | None = None,
        gains: str = "stiff",
        threads: WantedThreads = None,
        physics: str = "mujoco",
        contacts_per_world: int | None = None,
        constraints_per_world: int | None = None,
        randomization: Randomization | None = None,
        privileged: bool = False,
    ) -> None:
        card = variant(task, obstacles, observe_obstacles, arm_speed)
        objects = card.objects if objects is None else objects
        shapes = object_shapes(objects)
        check_obstacles(card.obstacles, card.object_starts, reach(shapes))
        if randomization is not None:
            check_randomization(randomization)
        curriculum = Curriculum(tolerance, final_tolerance, curriculum_interval, shrinks=card.curriculum)
        engine = choose_engine(physics, device, threads, contacts_per_world, constraints_per_world)
        # MuJoCo is imported here and not above: importing this package stays cheap
        from epo_lightning.envs.allegro_kuka.scene import DECIMATION, build_scene

        if gains not in GAINS:
            raise Mistake(f"data.env.init_args.gains must be one of {', '.join(GAINS)}; got {gains!r}")
        blocks = [{"size": [*each.size], "pos": [*each.pos], "mass": each.mass} for each in card.obstacles]
        self._arguments = {
            "task": task,
            "objects": objects if isinstance(objects, str) else [list(shape) for shape in objects],
            "obstacles": blocks,
            "observe_obstacles": observe_obstacles,
            "gains": gains,
        }
        scales = object_scales(objects, num_envs, seed)
        model = build_scene(card, GAINS[gains])
        self._ranges = {} if randomization is None else randomization.ranges
        varied = [name for name in self._ranges if name in FACTORS]
        objects_of = half_sizes(scales), masses(scales)
        self.physics = engine(model, num_envs, card.arms, *objects_of, decimation=DECIMATION, varied=varied)
        low, high = torch.from_numpy(model.jnt_range[: card.joints]).T
        generator = torch.Generator(self.physics.device).manual_seed(seed)
        if self.physics.masked:
            curriculum.move_to(self.physics.device)
        self._draws = Draws(self._ranges, card, num_envs, seed, self.physics.device) if self._ranges else None
        self.rules = Rules(card, scales, low, high, generator, curriculum, privileged)
        groups = (Group(SEEN, card.obs_dim), Group(GROUP, privileged_dim(card), privileged=True)) if privileged else ()
        self.spec = EnvSpec(
            name=f"AllegroKuka/{card.name}",
            num_envs=num_envs,
            obs_dim=card.obs_dim + (privileged_dim(card) if privileged else 0),
            act_dim=card.joints,
            max_episode_steps=MAX_SUCCESSES * (card.budget - 1),
            step_seconds=STEP_SECONDS,
            groups=groups,
        )
        self._device, self._engine, self._gains = device, physics, gains
        self._all = torch.arange(num_envs, device=self.physics.device)
        self._drawing: SceneDrawing | None = None
        self._final_obs = torch.zeros(num_envs, self.spec.obs_dim, device=self.physics.device)

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        return signals(self.rules.card, self.rules.low.cpu(), self.rules.high.cpu())

    @torch.no_grad()
    @OneThread()
    def reset(self) -> Tensor:
        """Start N new episodes; see `VectorEnv.reset`."""
        return self._restart(self._all).to(self._device)

    @torch.no_grad()
    @OneThread()
    def reset_late(self, over: Tensor) -> Tensor:
        """Of the time for the first goal, `over` is over; see `VectorEnv.reset_late`."""
        rules, ids = self.rules, self._all
        self._restart(ids)
        rules.memory.progress.copy_((over.to(rules.device) * (rules.card.budget - 1)).floor())
        return self._first_observation(self.physics.state.rows(ids), ids).to(self._device)

    @torch.no_grad()
    @OneThread()
    def step(self, actions: Tensor) -> StepResult:
        """One control step of 1/60 s; see `VectorEnv.step`."""
        rules, physics = self.rules, self.physics
        due = self._chosen(rules.memory.goal_reached)
        if len(due):
            physics.place_goal(due, *rules.new_goals(due))
            if rules.card.replace_object:
                physics.place_object(due, *rules.new_object(due))

        physics.step(self._targets(actions.to(rules.device)), rules.forces(physics.state.object_frame[:, :4]))
        result = rules.advance(physics.state, physics.blown_up)
        if self._draws is not None:
            self._draws.observed(result.obs)
        log: dict[str, Tensor | float] = {
            "tolerance": rules.curriculum.limit,
            "true_objective": rules.curriculum.true_objective(rules.memory.last_successes),
            "lifted": rules.memory.lifted.float(),
            "fingertip_distance": rules.memory.closest_tips.mean(dim=1),
            "keypoint_distance": result.goal_distance,
            "object_height": physics.state.object_pos[:, 2].clone(),
            "physics_resets": physics.blown_up.sum(dtype=torch.float32),
        }
        ended = self._chosen(result.terminated | result.truncated)
        if len(ended):
            put(self._final_obs, ended, take(result.obs, ended))
            put(result.obs, ended, self._restart(ended))
        device = self._device
        return StepResult(
            obs=result.obs.to(device),
            reward=result.reward.to(device),
            terminated=result.terminated.to(device),
            truncated=result.truncated.to(device),
            successes=result.success.to(device),
            final_obs=self._final_obs.to(device),
            log={name: value.to(device) if isinstance(value, Tensor) else value for name, value in log.items()},
        )

    def _chosen(self, mask: Tensor) -> Tensor:
        """Environments of `mask` (N,) as the engine wants them: see `physics.rows`."""
        return mask.clone() if self.physics.masked else mask.nonzero().flatten()

    def _restart(self, ids: Tensor) -> Tensor:
        """New episodes in the environments `ids`; returns their first observations, (M, O)."""
        start = self.rules.restart(ids)
        if self._draws is not None:
            self._draws.restart(ids, start.joint_pos)
            self._apply(ids, self._draws)
        state = self.physics.reset(ids, *start)
        self.physics.place_goal(ids, *self.rules.new_goals(ids))
        return self._first_observation(state, ids)

    def _apply(self, ids: Tensor, draws: Draws) -> None:
        """Physics, and what the critic is told, follow what the environments `ids` have drawn."""
        self.physics.vary(ids, draws.scene(ids))
        for name in draws.names:
            put(self.rules.drawn[:, _PLACES[name]], ids, take(draws.values[:, draws.names.index(name)], ids))

    def _first_observation(self, state: PhysicsState, ids: Tensor) -> Tensor:
        obs = self.rules.first_observation(state, ids)
        return obs if self._draws is None else self._draws.observed(obs, ids)

    def _targets(self, actions: Tensor) -> Tensor:
        """(N, D) what the drives aim at in this step."""
        if self._draws is None:
            return self.rules.targets(actions)
        return self._draws.delayed(self.rules.targets(self._draws.perturbed(actions)))

    def drawn(self) -> Drawn:
        """What `randomization` has drawn for the episodes that run: names, units and values, (N, P)."""
        if self._draws is None:
            return Drawn((), (), torch.zeros(self.spec.num_envs, 0, device=self._device))
        names, units, values = self._draws.drawn()
        return Drawn(names, units, values.to(self._device))

    def state_dict(self) -> dict[str, Any]:
        """Physics, episodes, curriculum, random generators, what was drawn, and which object every environment has."""
        parts = {"physics": self.physics.state_dict(), "rules": self.rules.state_dict()}
        if self._draws is not None:
            parts["randomization"] = {"ranges": self._ranges, **self._draws.state_dict()}
        return self._arguments | parts | {"scales": self.rules.scales}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to the bit from `state`.

        Raises:
            Mistake: When it is of another task, number of environments or seed: the seed deals out the objects.
        """
        missing = [name for name in (*self._arguments, "physics", "rules", "scales") if name not in state]
        if missing:
            raise Mistake(f"data.env: this is not a saved state of AllegroKuka, it lacks {', '.join(missing)}")
        for name, value in self._arguments.items():
            if state[name] != value:
                raise Mistake(f"data.env.init_args.{name} must be {state[name]}, as in the saved state; got {value}")
        engine = state["physics"].get("engine", "mujoco")
        if engine != self._engine:
            raise Mistake(f"data.env.init_args.physics must be {engine}, as in the saved state; got {self._engine}")
        scales = state["scales"].to(self.rules.device)
        if len(scales) == self.spec.num_envs and not torch.equal(scales, self.rules.scales):
            raise Mistake("data.env: the saved state's environments have other objects: another seed dealt them out")
        self.physics.settle(state["physics"])
        if len(scales) == self.spec.num_envs:  # else the physics refuse it
            self._load_draws(state.get("randomization", {}), state["rules"]["targets"])
        self.physics.load_state_dict(state["physics"])
        self.rules.load_state_dict(state["rules"])

    def _load_draws(self, state: Mapping[str, Any], targets: Tensor) -> None:
        """What was drawn; anew where the ranges are others than those of `state`, with the drives at `targets`."""
        if self._draws is None:
            return
        if {name: tuple(limits) for name, limits in state.get("ranges", {}).items()} == self._ranges:
            self._draws.load_state_dict(state)
        else:
            self._draws.restart(self._all, targets.to(self.rules.device))
        self._apply(self._all, self._draws)

    def settle(self) -> str:
        """The number of threads, where it is to be measured; see `VectorEnv.settle`."""
        return self.physics.settle()

    def chosen(self) -> dict[str, Any]:
        """Of `physics: mujoco`, who steps; see `VectorEnv.chosen`."""
        return self.physics.chosen()

    def curriculum(self) -> dict[str, float]:
        """The tolerance reached, in metres."""
        return {"tolerance": self.rules.tolerance}

    def set_curriculum(self, values: Mapping[str, float]) -> None:
        """Take over a tolerance, in metres, and hold it; see `VectorEnv.set_curriculum`."""
        self.rules.curriculum.hold(float(values["tolerance"]))

    def begin_at(self, values: Mapping[str, float]) -> None:
        """Take over a tolerance, in metres, that goes on shrinking; see `VectorEnv.begin_at`."""
        self.rules.curriculum.hold(float(values["tolerance"]))
        self.rules.curriculum.held = False

    def true_objective(self, successes: Tensor) -> Tensor:
        """Of the tolerance's progress and the successes; see `VectorEnv.true_objective`."""
        return self.rules.curriculum.true_objective(successes)

    def symmetry(self) -> Symmetry:
        """Half a turn about the vertical axis, see `mirror`; see `VectorEnv.symmetry`."""
        return mirror_map(self.rules.card, self.rules.privileged)

    def reward_parameters(self) -> dict[str, float]:
        """What the reward pays, see `reward.Prices`; see `VectorEnv.reward_parameters`."""
        return exposed(self.rules.card.velocity_penalty)

    def set_reward_parameters(self, values: Mapping[str, Tensor]) -> None:
        """Pay `values` from the next step on; see `VectorEnv.set_reward_parameters`."""
        require_reward_parameters(self, values)
        self.rules.set_prices(values)

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """Pictures with the goal and what counts as near; see `VectorEnv.render`."""
        from epo_lightning.envs.allegro_kuka.appearance import CAMERA
        from epo_lightning.physics.drawing import SceneDrawing

        if self._drawing is None or (self._drawing.width, self._drawing.height) != (width, height):
            self._close_drawing()
            self._drawing = SceneDrawing(self.physics.model, width, height, CAMERA)
        return np.stack([self._drawing.draw(*self.physics.snapshot(i), self.markers(i)) for i in envs])

    def scene_xml(self) -> str:
        """The scene as MJCF, with the base cube; see `scene.scene_xml`."""
        from epo_lightning.envs.allegro_kuka.scene import scene_xml

        return scene_xml(self.rules.card, GAINS[self._gains])

    @property
    def randomized(self) -> bool:
        """Whether episodes draw anything of the scene, of sensors or of drives."""
        return self._draws is not None

    def markers(self, env: int) -> "list[Marker]":
        """What is drawn of environment `env` beyond its scene: what counts as near the goal."""
        from epo_lightning.envs.allegro_kuka.markers import goal_markers

        return goal_markers(self.rules, self.physics.state, env)

    def script(self) -> Callable[[], Tensor]:
        """The controller written by hand, see `scripted`; it goes through the same actions as a policy."""
        return Script(self.rules, self.physics)

    def close(self) -> None:
        """Stop the physics."""
        self._close_drawing()
        self.physics.close()

    def _close_drawing(self) -> None:
        if self._drawing is not None:
            self._drawing.close()
            self._drawing = None
