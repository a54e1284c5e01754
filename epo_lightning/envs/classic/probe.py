"""The probe: a task that every correct learner solves within seconds. For tests and for a first try of a new set-up.

Shape legend: N environments of this rank, D entries of the observation and of the action.
"""

from typing import Literal

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.classic.base import ClassicEnv, Transition
from epo_lightning.limits import Mistake, require_range

TOLERANCE = 0.1


class Probe(ClassicEnv):
    """Answer the observation o with the action `gain` * o; the reward is -|action - gain * o|^2, at best 0.

    The observation is uniform in [-1, 1]^D and new in every step, whatever the action: nothing but the reward of the
    present step can be learnt, and the true values are known. With `ending: terminated` and one step the value of a
    state is the expected reward; with `ending: truncated` it is the expected reward / (1 - gamma), however short the
    episodes are. A step counts one success when every entry of the action is within 0.1 of its target.

    Args:
        num_envs: N.
        device: Where every tensor lives.
        seed: Seed of the observations.
        max_steps: Length of an episode in env steps.
        dim: D.
        gain: The factor to learn, in [-1, 1].
        ending: Whether an episode ends as `terminated` (no future) or as `truncated` (to be bootstrapped).

    Raises:
        Mistake: When `dim` < 1, `gain` is outside [-1, 1], `ending` is neither word, or `max_steps` < 1.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        max_steps: int = 1,
        dim: int = 2,
        gain: float = -0.5,
        ending: Literal["terminated", "truncated"] = "terminated",
    ) -> None:
        require_range("data.env.init_args.dim", dim, 1)
        require_range("data.env.init_args.gain", gain, -1.0, 1.0)
        if ending not in ("terminated", "truncated"):
            raise Mistake(f"data.env.init_args.ending must be 'terminated' or 'truncated', got {ending!r}")
        spec = EnvSpec("Probe", num_envs, obs_dim=dim, act_dim=dim, max_episode_steps=max_steps)
        super().__init__(spec, device, seed, state_dim=dim)
        self.gain = gain
        self.terminates = ending == "terminated"

    def _draw(self) -> Tensor:
        return self._uniform(self._state_dim)

    def _observe(self, state: Tensor) -> Tensor:
        return state.clone()

    def _advance(self, state: Tensor, actions: Tensor, last: Tensor) -> Transition:
        # r = -|a - gain o|^2
        error = actions - self.gain * state
        return Transition(
            state=self._draw(),
            reward=-error.square().sum(1),
            terminated=last if self.terminates else torch.zeros_like(last),
            successes=(error.abs().amax(1) <= TOLERANCE).to(torch.float32),
        )
