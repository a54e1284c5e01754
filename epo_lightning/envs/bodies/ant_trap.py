"""AntTrap: a four-legged body is paid for going forward, and a trap lies ahead.

Shape legend: N environments of this rank, M chosen environments.
"""

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.bodies.base import BodyEnv, Verdict
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.limits import require_range
from epo_lightning.physics.base import WantedThreads

TIMESTEP, DECIMATION = 0.01, 5
START_HEIGHT = 0.75
HEALTHY = (0.2, 1.0)
"""Heights of the torso between which an episode goes on, m."""
ANKLES = (1.0, -1.0, -1.0, 1.0)
"""Angles of the ankles at the start, rad; the hips are at 0."""
START_NOISE = 0.1
HEALTHY_REWARD, CONTROL_COST = 1.0, 0.5
BEHIND = 1.0
"""m behind the trap's back wall: where the ant counts as past it."""
MAP = (15.0, 15.0, 8.0)
"""Middle and half width of x, and half width of y, by which the position is told, m."""


class AntTrap(BodyEnv):
    """Run forward; straight ahead is a dead end that has to be walked around.

        +---------------------------------
        |            ==============+
        |                          |          y
        |   ant                    |          |
        |                          |          +-- x
        |            ==============+
        +---------------------------------
            0       6.5           12

    The trap is that of QD-PG (Pierrot et al., arXiv 2006.08505) as QDax has it: a back wall at x = 12 m, 5 m wide, and
    side walls at y = +-3 m from 6.5 to 12.5 m, with a radius of half a metre. Body and reward are those of the well
    known ant (Schulman et al., arXiv 1506.02438), with the sizes, joint ranges and motors of Gymnasium's: forward
    velocity, plus 1 for every step with the torso between 0.2 and 1 m high, minus half the squared actions. Another
    height terminates the episode. Who follows the reward stands in the trap; getting past it costs the way to the
    side. An episode counts one success in the step in which the torso is for the first time a metre behind the back
    wall.

    The physics is MuJoCo's implicit integrator, five steps of 0.01 s an env step, instead of its Runge-Kutta method,
    which takes four times as long; the scene is our own.

    Observation: x and y, as (x - 15) / 15 and y / 8; height, quaternion and eight joint angles; velocities of all of
    them. Action: the eight torques, at most 150 N m.

    Args:
        num_envs: N.
        device: Where tensors are handed over; the physics runs on the CPU.
        seed: Seed of the noise at the start.
        max_steps: Time limit of an episode in env steps of 0.05 s.
        trap: x of the middle of the trap's back wall, in m; side walls reach 5.5 m back from there.
        threads: CPU threads; null: the cores this process may use, shared by a machine's ranks; auto: what a
            measurement of a second finds best when a training begins. Results do not depend on it.

    Raises:
        Mistake: When the ant would start inside a wall, or `max_steps` or `threads` is no number of threads.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        max_steps: int = 1000,
        trap: float = 12.0,
        threads: WantedThreads = None,
    ) -> None:
        require_range("data.env.init_args.trap", trap, 2.0)
        from epo_lightning.envs.bodies.ant import build_scene

        self.trap = trap
        seconds = TIMESTEP * DECIMATION
        spec = EnvSpec("AntTrap", num_envs, 29, 8, max_episode_steps=max_steps, step_seconds=seconds)
        super().__init__(spec, device, seed, build_scene(trap, TIMESTEP, START_HEIGHT), DECIMATION, threads)
        joints = [each for ankle in ANKLES for each in (0.0, ankle)]
        self._stand = torch.tensor([0.0, 0.0, START_HEIGHT, 1.0, 0.0, 0.0, 0.0, *joints])

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        limbs = "hip and ankle of front left, back left, back right, front right leg"
        observation = (
            Signal("place", 2, "", "x and y on the map, scaled"),
            Signal("height", 1, "m", "of the torso"),
            Signal("orientation", 4, "", "quaternion (w, x, y, z) of the torso"),
            Signal("joint_position", 8, "rad", limbs),
            Signal("velocity", 3, "m/s", "of the torso"),
            Signal("angular_velocity", 3, "rad/s", "of the torso"),
            Signal("joint_velocity", 8, "rad/s", limbs),
        )
        return Signals(observation, (Signal("torque", 8, "N m", limbs, (-150.0,) * 8, (150.0,) * 8),))

    def _starts(self, count: int) -> tuple[Tensor, Tensor]:
        shake = torch.rand((count, 15), generator=self._generator) * 2.0 - 1.0
        position = self._stand + START_NOISE * shake
        position[:, 3:7] /= position[:, 3:7].norm(dim=1, keepdim=True)
        return position, START_NOISE * torch.randn((count, 14), generator=self._generator)

    def _observe(self, position: Tensor, velocity: Tensor) -> Tensor:
        middle, reach, aside = MAP
        place = torch.stack(((position[:, 0] - middle) / reach, position[:, 1] / aside), dim=1)
        return torch.cat((place, position[:, 2:], velocity), dim=1)

    def _judge(self, before: Tensor, actions: Tensor, last: Tensor) -> Verdict:
        position = self.worlds.position.float()
        x, height = position[:, 0], position[:, 2]
        # r = (x' - x) / dt + healthy - 0.5 |a|^2
        forward = (x - before[:, 0]) / (TIMESTEP * DECIMATION)
        healthy = (height >= HEALTHY[0]) & (height <= HEALTHY[1])
        reward = forward + HEALTHY_REWARD * healthy - CONTROL_COST * actions.square().sum(1)

        past = healthy & (x >= self.trap + BEHIND) & ~self._met
        self._met |= past
        return Verdict(reward, ~healthy, past.float(), log={"x": x, "forward": forward})
