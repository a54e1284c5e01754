"""Two goals: a poor one next to the start, a rich one behind a wall that can be passed on either side.

Shape legend: N environments of this rank.
"""

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.arena import Arena, Box
from epo_lightning.envs.classic.base import Transition
from epo_lightning.envs.classic.drawing import GOAL, NEAR, Colour, Surface
from epo_lightning.limits import require_range

POOR_AT, RICH_AT = (0.0, -0.5), (0.0, 0.6)
RADIUS, START_RADIUS = 0.15, 0.05
WALL_FROM, WALL_TO = 0.2, 0.3
"""y of the wall between the start and the rich goal."""
POOR: Colour = (232, 199, 64)


class TwoGoals(Arena):
    """Several ways lead to what is best, the obvious one to what is poor; both end the episode.

        +------------------------+  1
        |                        |
        |          rich          |  0.6
        |       ==========       |  0.2
        |         start          |  0
        |                        |
        |          poor          |  -0.5
        |                        |
        +------------------------+  -1
       -1                        1

    Each step costs `step_cost`; an episode terminates at either goal, which pays `poor_reward` or `rich_reward`. A
    random walk meets the poor goal about eight times as often as the rich one, and who goes there at once is soon
    better paid than who still looks around. The rich goal can be reached on the left and on the right alike: the
    average of the two ways runs into the wall. Only the rich goal counts as a success; `env/poor_goal` tells how often
    the other one was taken. The deceptive objective is that of Lehman and Stanley (Evolutionary Computation 19(2),
    2011), the equal modes are those of the multi-goal point of Haarnoja et al. (arXiv 1702.08165); geometry and
    numbers are our own.

    What makes it harder: a wider wall, a shorter time limit.

    Observation: position (x, y). Action: velocity; a full action moves the point by `speed` in x and in y.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the start positions, uniform within 0.05 of (0, 0) along each axis.
        max_steps: Time limit of an episode in env steps; about 15 lead to the rich goal, 4 to the poor one.
        speed: Largest displacement along each axis per env step.
        wall: Half the width of the wall before the rich goal; the arena ends at 1.
        poor_reward: Reward added in the step that reaches the poor goal.
        rich_reward: Reward added in the step that reaches the rich goal.
        step_cost: Subtracted from the reward of every step.

    Raises:
        Mistake: When `rich_reward` is not greater than `poor_reward`, `speed` not positive, `step_cost` negative,
            `wall` shuts the way, or `max_steps` < 1.
    """

    point_radius = 0.03

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        max_steps: int = 100,
        speed: float = 0.1,
        wall: float = 0.4,
        poor_reward: float = 1.0,
        rich_reward: float = 10.0,
        step_cost: float = 0.02,
    ) -> None:
        require_range("data.env.init_args.speed", speed, 0.0, open_low=True)
        require_range("data.env.init_args.wall", wall, 0.0, 0.9, open_low=True)
        require_range("data.env.init_args.step_cost", step_cost, 0.0)
        require_range("data.env.init_args.rich_reward", rich_reward, poor_reward, open_low=True)
        spec = EnvSpec("TwoGoals", num_envs, obs_dim=2, act_dim=2, max_episode_steps=max_steps)
        box: Box = (-wall, wall, WALL_FROM, WALL_TO)
        super().__init__(spec, device, seed, (-1.0, -1.0), (1.0, 1.0), [box], speed)
        self.wall = wall
        self.poor_reward = poor_reward
        self.rich_reward = rich_reward
        self.step_cost = step_cost
        self._goals = torch.tensor((POOR_AT, RICH_AT), device=self.device)

    def _draw(self) -> Tensor:
        return START_RADIUS * self._uniform(2)

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        position = self._moved(state, actions)
        # r = poor_reward [at the poor goal] + rich_reward [at the rich goal] - step_cost
        distance = torch.linalg.vector_norm(position[:, None] - self._goals, dim=2)
        poor, rich = (distance <= RADIUS).to(torch.float32).unbind(1)
        reward = self.poor_reward * poor + self.rich_reward * rich - self.step_cost
        return Transition(position, reward, (poor + rich) > 0.0, rich, log={"poor_goal": poor})

    def _waypoint(self, x: Tensor, y: Tensor) -> Tensor:
        """To the nearer passage, through it, and to the rich goal."""
        # the middle of the passage; before the wall it is approached at the height of the start
        aside = torch.where(x < 0.0, -0.5, 0.5) * (1.0 + self.wall)
        below = y < WALL_TO
        target_x = torch.where(below, aside, RICH_AT[0])
        target_y = torch.where(below, torch.where(x.abs() > self.wall, WALL_TO, 0.0), RICH_AT[1])
        return torch.stack((target_x, target_y), dim=1)

    def _draw_goals(self, canvas: Surface) -> None:
        canvas.disc(POOR_AT, RADIUS, POOR)
        canvas.disc(RICH_AT, RADIUS, NEAR)
        canvas.disc(RICH_AT, 0.25 * RADIUS, GOAL)
