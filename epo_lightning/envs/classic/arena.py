"""A point between walls: what the flat mazes share.

Shape legend: N environments of this rank, W walls, M environments in a picture.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.envs.classic.drawing import BODY, GROUND, SOLID, TRAIL, Canvas, Point, Surface, blend
from epo_lightning.envs.signals import Signal, Signals

_LONGEST_TRAIL = 60

Box = tuple[float, float, float, float]
"""x from, x to, y from, y to."""


def move_along(start: Tensor, move: Tensor, across: Tensor, walls: Tensor) -> Tensor:
    """Move points along one axis until the first wall face.

    The stop is exact for a move of any length: nothing tunnels. A point on a face is outside and slides along it.

    Args:
        start: (N,) coordinate along the axis.
        move: (N,) wanted displacement along the axis.
        across: (N,) coordinate across the axis, constant during the move.
        walls: (W, 4) boxes as (low, high) along the axis, then (low, high) across it.

    Returns:
        (N,) coordinate along the axis after the move.
    """
    low, high, side_low, side_high = walls.unbind(1)
    level = (across[:, None] > side_low) & (across[:, None] < side_high)  # (N, W): the wall lies on the way
    ceiling = torch.where(level & (start[:, None] <= low), low, torch.inf).amin(1)
    floor = torch.where(level & (start[:, None] >= high), high, -torch.inf).amax(1)
    # x' = min(max(x + dx, nearest face behind), nearest face ahead)
    return torch.minimum(torch.maximum(start + move, floor), ceiling)


class Arena(ClassicEnv):
    """A point in a box with walls; its state and observation are its position, the action is its velocity.

    A move is made along x first and then along y; each leg stops at the first wall.

    Args:
        spec: The task.
        device: Where every tensor lives.
        seed: Seed of this environment's own generator.
        low: Corner of the arena with the smallest x and y.
        high: The opposite corner.
        boxes: The W walls.
        speed: Largest displacement along each axis per env step.

    Attributes:
        walls: (W, 4) the walls as boxes.
        low: (2,) see the argument.
        high: (2,) see the argument.
        speed: See the argument.
    """

    point_radius = 0.05
    """Of the point in a picture."""

    def __init__(
        self,
        spec: EnvSpec,
        device: torch.device,
        seed: int,
        low: Point,
        high: Point,
        boxes: Sequence[Box],
        speed: float,
    ) -> None:
        super().__init__(spec, device, seed, state_dim=2)
        self.speed = speed
        self.walls = torch.tensor(boxes, device=self.device)
        self._walls_along_y = self.walls[:, [2, 3, 0, 1]]
        self.low = torch.tensor(low, device=self.device)
        self.high = torch.tensor(high, device=self.device)
        self._past: deque[Tensor] | None = None

    @abstractmethod
    def _draw_goals(self, canvas: Surface) -> None:
        """What the point should reach, drawn below walls and point."""

    @abstractmethod
    def _waypoint(self, x: Tensor, y: Tensor) -> Tensor:
        """Where a good way leads next from (x, y), both (N,): (N, 2), in a straight line that no wall crosses."""

    def signals(self) -> Signals:
        """See `VectorEnv.signals`."""
        low, high = (-self.speed, -self.speed), (self.speed, self.speed)
        move = Signal("move", 2, "", "along x and y in a step, as far as the first wall", low, high)
        return Signals((Signal("position", 2, "", "x and y"),), (move,))

    def _observe(self, state: Tensor) -> Tensor:
        return state.clone()

    def _moved(self, state: Tensor, actions: Tensor) -> Tensor:
        """Positions (N, 2) after a step from `state` (N, 2) with `actions` (N, 2)."""
        if self._past is not None:
            self._past.append(state)
        x, y = state.unbind(1)
        move_x, move_y = (self.speed * actions).unbind(1)
        x = move_along(x, move_x, y, self.walls).clamp(self.low[0], self.high[0])
        y = move_along(y, move_y, x, self._walls_along_y).clamp(self.low[1], self.high[1])
        return torch.stack((x, y), dim=1)

    def after(self, state: Tensor, actions: Tensor) -> Transition:
        """What a step makes of positions (N, 2) with actions (N, 2), before the time limit; moves nothing here."""
        last = torch.zeros(state.shape[0], dtype=torch.bool, device=state.device)
        return self._advance(state, actions.clamp(-1.0, 1.0), last)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, with a picture's trail forgotten; see `ClassicEnv.load_state_dict`."""
        super().load_state_dict(state)
        if self._past is not None:
            self._past.clear()

    def script(self) -> Callable[[], Tensor]:
        """Walk a way that is known to lead to the goal; see `VectorEnv.script`."""

        def actions() -> Tensor:
            position = self._present()
            return ((self._waypoint(*position.unbind(1)) - position) / self.speed).clamp(-1.0, 1.0)

        return actions

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        """Walls, goals, the point and where it came from; see `VectorEnv.render`.

        The way is remembered from the first picture on; no saved state holds it.
        """
        if self._past is None:
            self._past = deque(maxlen=_LONGEST_TRAIL)
        low, high = self.low.tolist(), self.high.tolist()
        edge = 0.02 * (high[0] - low[0])
        pictures = []
        for env, (x, y) in zip(envs, self._rows(envs), strict=True):
            canvas = Canvas((low[0] - edge, low[1] - edge), (high[0] + edge, high[1] + edge), width, height, SOLID)
            self.draw_place(canvas)
            if self._past:
                self._draw_trail(canvas, env)
            canvas.disc((x, y), self.point_radius, BODY)
            pictures.append(canvas.picture())
        return np.stack(pictures)

    def draw_place(self, surface: Surface) -> None:
        """Draw what never moves: the ground, the goals and the walls."""
        surface.box(self.low.tolist(), self.high.tolist(), GROUND)
        self._draw_goals(surface)
        for left, right, bottom, top in self.walls.tolist():
            surface.box((left, bottom), (right, top), SOLID)

    def _draw_trail(self, canvas: Canvas, env: int) -> None:
        """A dot wherever the point has been in this episode, fainter the longer ago."""
        assert self._past
        steps = min(int(self._clock[env]), len(self._past))
        been = torch.stack(list(self._past))[len(self._past) - steps :, env]
        for age, position in zip(range(steps, 0, -1), been.tolist(), strict=True):
            canvas.disc(position, 0.5 * self.point_radius, blend(TRAIL, GROUND, 0.8 * age / _LONGEST_TRAIL))
