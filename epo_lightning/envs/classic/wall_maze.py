"""A point in front of a cup-shaped wall with the goal behind it: a deceptive reward that diversity overcomes.

Shape legend: N environments of this rank.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import Symmetry, signs
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.arena import Arena, Box
from epo_lightning.envs.classic.base import Transition
from epo_lightning.envs.classic.drawing import GOAL, NEAR, Surface
from epo_lightning.limits import Mistake, require_range

Difficulty = Literal["easy", "medium", "hard"]


class Cup(NamedTuple):
    """Depth and width of a cup inside."""

    depth: float
    width: float


CUPS: dict[str, Cup] = {"easy": Cup(0.3, 0.5), "medium": Cup(0.4, 0.5), "hard": Cup(0.5, 0.6)}
"""What `difficulty` stands for; easy is that of the configuration wall_maze."""


class WallMaze(Arena):
    """Walk around a cup that opens towards the start; the straight way to the goal ends inside the cup.

        +----------------------------------------------------+
        |                 +-----------+                      |
        |                 | upper arm |                      |
        |                 +-------+   |   ^                  |
        |      start              |   |   | cup_width        |     y
        |      (0, 0)             |   |   |    goal          |     |
        |                         |   |   |                  |     +-- x
        |                 +-------+   |   v                  |
        |                 | lower arm |                      |
        |                 +-----------+                      |
        +----------------------------------------------------+
                          <------->
                          cup_depth

    Observation: position (x, y). Action: velocity; a full action moves the point by `speed` in x and in y. The move is
    made along x first and then along y; each leg stops at the first wall. The reward of a step is minus
    `distance_scale` times the distance to the goal after it, so every detour costs at once and pays later: a greedy
    learner settles at the bottom of the cup, and the agents that leave it score worse until one of them finds the goal.
    Reaching the goal adds `goal_reward`, counts one success and terminates.

    What makes it harder: a deeper cup (more is lost on the detour), a wider cup (fewer random walks pass it), a smaller
    `speed`, a shorter time limit. `difficulty` sets depth and width: easy 0.3 and 0.5, medium 0.4 and 0.5, hard 0.5 and
    0.6.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start positions.
        max_steps: Time limit of an episode in env steps.
        speed: Largest displacement along each axis per env step.
        back_distance: x of the cup's inner back wall, seen from the start at 0.
        cup_depth: Length of the arms inside; null: as `difficulty` says. More than `back_distance` puts the start
            inside the cup.
        cup_width: Distance between the arms inside; null: as `difficulty` says.
        wall: Thickness of the three walls.
        goal_distance: x of the goal.
        goal_radius: The goal is reached within this distance.
        start_radius: Starts are uniform in a square of this half width around 0.
        distance_scale: Factor of the distance in the reward.
        goal_reward: Reward added in the step that reaches the goal.
        difficulty: easy, medium or hard.

    Raises:
        Mistake: When the goal could be touched through the back wall, the start lies in a wall, a length is not
            positive, `difficulty` is none of the three, or `max_steps` < 1.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        max_steps: int = 100,
        speed: float = 0.1,
        back_distance: float = 0.6,
        cup_depth: float | None = None,
        cup_width: float | None = None,
        wall: float = 0.1,
        goal_distance: float = 1.0,
        goal_radius: float = 0.2,
        start_radius: float = 0.1,
        distance_scale: float = 0.1,
        goal_reward: float = 10.0,
        difficulty: Difficulty = "easy",
    ) -> None:
        if difficulty not in CUPS:
            raise Mistake(f"data.env.init_args.difficulty must be one of {', '.join(CUPS)}; got {difficulty!r}")
        cup_depth = CUPS[difficulty].depth if cup_depth is None else cup_depth
        cup_width = CUPS[difficulty].width if cup_width is None else cup_width
        lengths = {"speed": speed, "back_distance": back_distance, "cup_depth": cup_depth, "cup_width": cup_width}
        lengths |= {"wall": wall, "goal_radius": goal_radius}
        for name, value in lengths.items():
            require_range(f"data.env.init_args.{name}", value, 0.0, open_low=True)
        if not goal_distance - goal_radius >= back_distance + wall:  # neither does NaN
            raise Mistake(
                f"data.env.init_args.goal_distance must be at least {back_distance + wall + goal_radius:g}"
                f" (back_distance + wall + goal_radius), got {goal_distance}"
            )
        require_range("data.env.init_args.start_radius", start_radius, 0.0, min(back_distance, cup_width / 2))
        spec = EnvSpec("WallMaze", num_envs, obs_dim=2, act_dim=2, max_episode_steps=max_steps)
        mouth, inner, outer = back_distance - cup_depth, back_distance, back_distance + wall
        half, rim = cup_width / 2, cup_width / 2 + wall
        boxes: list[Box] = [
            (mouth, outer, half, rim),  # upper arm
            (mouth, outer, -rim, -half),  # lower arm
            (inner, outer, -rim, rim),  # back wall
        ]
        # The arena leaves a lane of one cup width around everything.
        left, right = min(mouth, -start_radius) - cup_width, goal_distance + cup_width
        super().__init__(spec, device, seed, (left, -rim - cup_width), (right, rim + cup_width), boxes, speed)
        self.goal = torch.tensor((goal_distance, 0.0), device=self.device)
        self.goal_radius = goal_radius
        self.start_radius = start_radius
        self.distance_scale = distance_scale
        self.goal_reward = goal_reward
        self._lane = rim + cup_width / 2

    def symmetry(self) -> Symmetry:
        """Above and below the line from start to goal are alike; see `VectorEnv.symmetry`."""
        return Symmetry(signs([1.0, -1.0]), signs([1.0, -1.0]))

    def _draw(self) -> Tensor:
        return self.start_radius * self._uniform(2)

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        position = self._moved(state, actions)

        # r = -distance_scale |p' - goal| + goal_reward [|p' - goal| <= goal_radius]
        distance = torch.linalg.vector_norm(position - self.goal, dim=1)
        reached = distance <= self.goal_radius
        successes = reached.to(torch.float32)
        reward = -self.distance_scale * distance + self.goal_reward * successes
        return Transition(position, reward, reached, successes, log={"distance": distance})

    def _waypoint(self, x: Tensor, y: Tensor) -> Tensor:
        """Out of the cup, up beside its mouth, along the upper lane, and down to the goal."""
        mouth, outer, _, rim = self.walls[0].unbind()
        behind, level = x >= outer, y.abs() < rim
        outside = 0.5 * (self.low[0] + mouth)
        target_x = torch.where(behind, self.goal[0], torch.where(level, outside, outer))
        target_y = torch.where(behind, self.goal[1], torch.where(level & (x >= mouth), y, self._lane))
        return torch.stack((target_x, target_y), dim=1)

    def _draw_goals(self, canvas: Surface) -> None:
        goal = self.goal.tolist()
        canvas.disc(goal, self.goal_radius, NEAR)
        canvas.disc(goal, 0.25 * self.goal_radius, GOAL)
