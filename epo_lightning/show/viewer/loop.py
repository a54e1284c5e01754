"""The simulation behind the page: real time, pause, pushes. It knows no browser."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from epo_lightning.envs.base import Simulated
from epo_lightning.limits import Mistake
from epo_lightning.show.playback import SEPARATOR, Playback

FRAME_SECONDS = 1 / 30
"""Time between two pictures; simulating may take as long, what is not done by then is dropped."""
PUSH_SECONDS = 0.1
"""Simulated time that a push lasts, at least one step."""
GRAVITY = 9.81
"""m/s2; forces are given in multiples of the object's weight."""
PULL_RATE = 15.0
"""1/s: an object that is dragged follows the mouse like a critically damped spring of this natural frequency."""
PULL_LIMIT = 10.0
"""The largest force of dragging, in weights of the object."""
SPEEDS = (0.1, 4.0)
"""Slowest and fastest, as multiples of real time."""


class Loop:
    """A playback that runs in real time, one environment of which is shown and can be pushed.

    The environment must be `envs.base.Simulated`.

    Args:
        playback: The environments and their actors.
        clock: Tells the time in seconds.

    Attributes:
        env: Number of the environment that is shown.
        paused: Whether time stands still.
        speed: Wanted speed, a multiple of real time.
        reached_speed: What the machine managed in the last second, a multiple of real time.
        force: (3,) force in N that the user put on the object in the last step, or None.
        model: MuJoCo's MjModel of the environment that is shown.
        data: Its present MjData.
        markers: `physics.drawing.Marker`s to be drawn with it.

    Raises:
        Mistake: When the task has no physics that can be shown.
    """

    def __init__(self, playback: Playback, clock: Callable[[], float] = time.monotonic) -> None:
        task, spec = playback.env, playback.env.spec
        if not isinstance(task, Simulated) or spec.step_seconds is None:
            raise Mistake(
                f"view shows tasks that run in MuJoCo, such as --config single_arm_regrasp; {spec.name} has no physics"
            )
        self.playback, self.clock, self.step_seconds = playback, clock, spec.step_seconds
        self._task: Simulated = task
        self.physics = task.physics
        self.env, self.paused, self.speed, self.reached_speed = 0, False, 1.0, 0.0
        self.force: Tensor | None = None
        self.refresh()
        self._push, self._push_steps = torch.zeros(3), 0
        self._target: Tensor | None = None
        self._last, self._owed, self._single_steps = clock(), 0.0, 0
        self._window_start, self._window_steps = self._last, 0

    @property
    def mass(self) -> float:
        """Of the object shown, kg."""
        return float(self.model.body_mass[self.model.body("object").id])

    # What the page's controls call ----------------------------------------------------------------------------------

    def show(self, env: int) -> None:
        """Show environment `env`; the user lets go of the object of the other one."""
        self.env = env
        self._let_go()
        self.refresh()

    def pause(self, paused: bool) -> None:
        """Stop the time, or let it go on."""
        self.paused = paused

    def step_once(self) -> None:
        """Stop the time and make one step."""
        self.paused = True
        self._single_steps += 1

    def restart(self) -> None:
        """New episodes in all environments."""
        self._let_go()
        self.playback.reset()
        self.refresh()

    def push(self, direction: Tensor, weights: float) -> None:
        """Push the object for `PUSH_SECONDS`; when paused, in the steps to come.

        Args:
            direction: (3,) unit vector.
            weights: Strength, a multiple of the object's weight.
        """
        self._push = weights * GRAVITY * self.mass * direction
        self._push_steps = max(1, round(PUSH_SECONDS / self.step_seconds))

    def drag(self, target: Tensor | None) -> None:
        """Pull the object's centre towards `target`, (3,) m, from now on; None lets go."""
        self._target = target

    # Time -----------------------------------------------------------------------------------------------------------

    def advance(self) -> int:
        """Make the steps that are due since the last call; returns how many.

        A machine that is too slow runs slower, it does not catch up later.
        """
        now = self.clock()
        self._owed += (now - self._last) * self.speed / self.step_seconds
        self._last = now
        if self.paused:
            self._owed = float(self._single_steps)
            self._single_steps = 0
        steps = 0
        while self._owed >= 1 and (steps == 0 or self.clock() - now < FRAME_SECONDS):
            self._step()
            self._owed -= 1
            steps += 1
        self._owed %= 1
        self._measure(now, steps)
        if steps:
            self.refresh()
        return steps

    def refresh(self) -> None:
        """Copy the shown environment into `model`, `data` and `markers`."""
        self.model, self.data = self.physics.snapshot(self.env)
        self.markers = self._task.markers(self.env)

    def _let_go(self) -> None:
        self.force, self._push_steps, self._target = None, 0, None

    def _step(self) -> None:
        self.force = self._users_force()
        if self.force is not None:
            self.physics.push(self.env, self.force)
        self._push_steps = max(0, self._push_steps - 1)
        self.playback.step()

    def _users_force(self) -> Tensor | None:
        """(3,) N of button and mouse together; None when neither acts."""
        force = self._push if self._push_steps else None
        if self._target is not None:
            state, env = self.physics.state, self.env
            pull = spring(self._target - state.object_pos[env].cpu(), state.object_frame[env, 4:7].cpu(), self.mass)
            force = pull if force is None else force + pull
        return force

    def _measure(self, now: float, steps: int) -> None:
        """Keep `reached_speed`."""
        self._window_steps += steps
        seconds = now - self._window_start
        if seconds >= 1:
            self.reached_speed = self._window_steps * self.step_seconds / seconds
            self._window_start, self._window_steps = now, 0

    def readout(self) -> list[str]:
        """Label and counts of the shown environment, the episodes it has finished, and the speed, in words."""
        finished = int(self.playback.episodes[self.env])
        return [
            *self.playback.captions()[self.env].split(SEPARATOR),
            f"{finished} episode{'' if finished == 1 else 's'} finished",
            "paused" if self.paused else f"speed {self.reached_speed:.2f}x of {self.speed:.1f}x",
        ]


def spring(stretch: Tensor, velocity: Tensor, mass: float) -> Tensor:
    """Force of a critically damped spring on a mass.

    Args:
        stretch: (3,) way to the target, m.
        velocity: (3,) of the mass, m/s.
        mass: kg.

    Returns:
        (3,) N, at most `PULL_LIMIT` weights.
    """
    # F = m (w^2 stretch - 2 w v)
    force = mass * (PULL_RATE**2 * stretch - 2 * PULL_RATE * velocity)
    return force * min(1.0, PULL_LIMIT * mass * GRAVITY / max(float(force.norm()), 1e-9))
