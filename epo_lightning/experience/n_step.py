"""A replay buffer whose transitions span n env steps, and whose environments explore by noise of different size.

Shape legend: n steps of a window, N environments, O observation, A action, W = 2 O + A + 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.n_step import n_step_windows
from epo_lightning.algorithm.pql import mixed_sigmas
from epo_lightning.envs.base import StepResult
from epo_lightning.experience.off_policy import ReplayDataset
from epo_lightning.experience.replay import NStepTransitions, ReplaySettings, ReplayShape, Ring, following
from epo_lightning.experience.world import World
from epo_lightning.learner.deterministic import DeterministicActor
from epo_lightning.limits import require_range


@dataclass(frozen=True)
class ExplorationSettings:
    """Gaussian noise on the actions: of another size in every environment, so that there is always one that fits.

    Args:
        sigma_min: Standard deviation in the first environment of all.
        sigma_max: That in the last one; those between are evenly spaced. The same as `sigma_min` for one everywhere.
    """

    sigma_min: float = 0.05
    sigma_max: float = 0.8

    def __post_init__(self) -> None:
        require_range("model.exploration.sigma_min", self.sigma_min, 0)
        require_range("model.exploration.sigma_max", self.sigma_max, self.sigma_min)


class NStepBuffer(Ring[NStepTransitions]):
    """A ring whose rewards are those of n steps. A step gets into it when the n-1 steps after it are known.

    Args:
        shape: Sizes.
        device: Where it lies.
        n_step: n.
        gamma: Discount of a step; that of its time is in what is stored.
    """

    def __init__(self, shape: ReplayShape, device: torch.device, n_step: int, gamma: float) -> None:
        super().__init__(shape, device)
        self.n_step, self.gamma = n_step, gamma
        # observation, action, what follows, reward, terminated, ended
        self._window = torch.zeros(n_step, shape.num_envs, shape.row + 1, device=device)
        self._envs = torch.arange(shape.num_envs, device=device)
        self._next = self._waiting = 0

    @staticmethod
    def waiting_nbytes(shape: ReplayShape, n_step: int) -> int:
        """Bytes of the steps that wait for others, beside the ring's."""
        return 4 * n_step * shape.num_envs * (shape.row + 1)

    def insert(self, obs: Tensor, actions: Tensor, result: StepResult) -> None:
        """Keep one env step of every environment, and store the one n-1 steps before: see `Ring.insert`."""
        ended = result.terminated | result.truncated
        told = torch.stack([result.reward, result.terminated.to(obs.dtype), ended.to(obs.dtype)], dim=-1)
        torch.cat([obs, actions, following(obs, result), told], dim=-1, out=self._window[self._next])
        self._next = (self._next + 1) % self.n_step
        self._waiting += 1
        if self._waiting == self.n_step:
            self._store_oldest()
            self._waiting -= 1

    def _store_oldest(self) -> None:
        """The oldest step, which the next one will overwrite."""
        order = self._order(self.n_step)
        rewards, terminated, ended = self._window[..., -3:].index_select(0, order).unbind(-1)
        windows = n_step_windows(rewards, terminated > 0, ended > 0, self.gamma)
        begins = self.shape.obs_dim + self.shape.act_dim
        oldest = self._window[self._next]
        follows = self._window[order[windows.last], self._envs, begins:-3]
        self.store([oldest[:, :begins], windows.returns[:, None], follows, windows.discount[:, None]])

    def _order(self, latest: int) -> Tensor:
        """Places of the so many latest steps in the window, the oldest first."""
        return (self._next - latest + torch.arange(latest, device=self._window.device)) % self.n_step

    def gather(self, numbers: Tensor) -> NStepTransitions:
        """The transitions that are stored under `numbers` (B,)."""
        return NStepTransitions(*self.columns(numbers))

    def cut(self) -> None:
        """What comes next does not follow on what is known: the steps that wait end as by a time limit."""
        if self._waiting:
            self._window[self._next - 1, :, -1] = 1.0

    def state_dict(self) -> dict[str, Any]:
        """Also the steps that wait for others, the oldest first."""
        return {**super().state_dict(), "waiting": self._window[self._order(self._waiting)].cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; where another n wrote it, with the latest of the steps that wait."""
        super().load_state_dict(state)
        waiting = state["waiting"]
        waiting = waiting[max(0, len(waiting) - self.n_step + 1) :]
        self._window[: len(waiting)] = waiting.to(self._window.device)
        self._waiting, self._next = len(waiting), len(waiting) % self.n_step


class MixedReplayDataset(ReplayDataset[NStepTransitions]):
    """A replay buffer's stream, whose environments act by one actor with noise of different size.

    Args:
        world: The environments; N of them on this rank.
        policy: The network that acts.
        settings: See `ReplaySettings`.
        updates_per_step: Minibatches of a batch.
        buffer: What is remembered; empty.
        exploration: Size of the noise.

    Attributes:
        sigmas: (N,) standard deviations; those of all ranks together are evenly spaced.
    """

    policy: DeterministicActor
    buffer: NStepBuffer

    def __init__(
        self,
        world: World,
        policy: DeterministicActor,
        settings: ReplaySettings,
        updates_per_step: int,
        buffer: NStepBuffer,
        exploration: ExplorationSettings,
    ) -> None:
        super().__init__(world, policy, settings, updates_per_step, buffer)
        low, high, envs = exploration.sigma_min, exploration.sigma_max, world.env.spec.num_envs
        sigmas = mixed_sigmas(low, high, world.rank * envs, envs, world.world_size * envs)
        self.sigmas = sigmas.to(self.device)

    def explore(self, obs: Tensor) -> Tensor:
        """(N, A) what the actor does plus noise, in [-1, 1]."""
        actions, _ = self.policy.act(obs, self.agent_ids, self.state)
        noise = torch.empty_like(actions).normal_(generator=self.generator)
        return torch.addcmul(actions, self.sigmas[:, None], noise).clamp_(-1.0, 1.0)
