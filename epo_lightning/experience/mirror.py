"""The mirror images of a rollout's samples: what is learned besides them from a task that is symmetric.

Shape legend: N environments, T horizon, K agents, B samples, O observation, A action, S recurrent state tensors, H LSTM
units.

Had the mirrored policy played the mirrored episodes, these would be its samples: observations and actions are mirrored,
old log-probabilities, values, targets and advantages are those of the originals (data augmentation, arXiv 2403.04359).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.independent import IndependentBatch
from epo_lightning.algorithm.symmetry import Symmetry
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.learner.actor_critic import ActorCritic
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.stacked import rows_of

Batch = TypeVar("Batch", RolloutBatch, IndependentBatch)


class Mirror:
    """Mirrors what `policy` collects in N environments.

    Args:
        symmetry: Of the task.
        policy: The network that acts.
        num_envs: N.
        autocast: Context in which the network runs.
        device: Of all tensors.

    Attributes:
        state: (S, N, H) of the policy that has seen the mirror images of the running episodes.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        policy: ActorCritic,
        num_envs: int,
        autocast: Callable[[], AbstractContextManager[Any]],
        device: torch.device,
    ) -> None:
        self._symmetry, self._policy, self._autocast = symmetry.to(device), policy, autocast
        self.state = policy.initial_state(num_envs, device)
        self._factor, self._shift = self._symmetry.obs.signs, torch.zeros_like(self._symmetry.obs.signs)

    def begin(self, moments: RunningMoments) -> None:
        """From here on observations are those that `moments` have normalised."""
        mean, scale = moments.mean.float(), (moments.var + moments.epsilon).rsqrt().float()
        order, signs = self._symmetry.obs.order, self._symmetry.obs.signs
        # y = (x - m) c, so the image of y is (s x' - m) c with x' = y' / c' + m'
        self._factor = signs * (scale / scale[..., order])
        self._shift = (signs * mean[..., order] - mean) * scale

    def both(self, count: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The moments of samples and their mirror images, from those of the samples, each as `merge` takes them."""
        order, signs = self._symmetry.obs.order, self._symmetry.obs.signs
        mirrored, half = signs * mean[..., order], 0.5
        spread = half * (mean - mirrored)
        return 2 * count, half * (mean + mirrored), half * (var + var[..., order]) + spread.square()

    def roll(self, buffer: RolloutBuffer) -> None:
        """Carry `state` through the rollout, whose observations are normalised; its beginning goes into the buffer."""
        if not self._policy.recurrent:
            return
        envs = buffer.envs
        buffer.image_states[:, :envs] = self.state
        resets = buffer.resets[:, :envs]
        with self._autocast():
            obs, rows = self._rows(buffer.obs[:-1, :envs]), self._policy.express(buffer.column_agents[:envs])
            state = self._policy(obs, rows, self.state, resets[:-1]).state
        self.state = state.masked_fill(resets[-1][:, None], 0.0)

    def forget(self, envs: Tensor) -> None:
        """The policies of the environments `envs` (N,) bool have seen nothing."""
        self.state = self.state.masked_fill(envs[:, None], 0.0)

    def image(self, batch: Batch, states: Tensor, agents: Tensor | None = None) -> Batch:
        """The mirror image of a minibatch.

        Args:
            batch: The minibatch.
            states: Of the images, as `batch.states` are those of the originals.
            agents: (A,) whose it is, where they have moments of their own; None for all.
        """
        factor, shift = (rows_of(each, agents) for each in (self._factor, self._shift))
        blocks = [1] * (batch.obs.dim() - factor.dim())
        factor, shift = (each.view(*each.shape[:-1], *blocks, each.shape[-1]) for each in (factor, shift))
        obs = self._clipped(batch.obs.index_select(-1, self._symmetry.obs.order) * factor + shift)
        return batch._replace(obs=obs, actions=self._actions(batch.actions), states=states)

    def _rows(self, obs: Tensor) -> Tensor:
        """The image of obs (T, N, O), rows in blocks of one agent each where every agent has moments of its own."""
        factor, shift = self._factor, self._shift
        if factor.dim() > 1:
            factor, shift = (each.repeat_interleave(obs.shape[1] // len(each), dim=0) for each in (factor, shift))
        return self._clipped(obs.index_select(-1, self._symmetry.obs.order) * factor + shift)

    def _clipped(self, obs: Tensor) -> Tensor:
        clip = self._policy.obs_moments.clip
        return obs if clip is None else obs.clamp_(-clip, clip)

    def _actions(self, actions: Tensor) -> Tensor:
        if self._policy.discrete:
            return self._symmetry.actions.order[actions.long()].to(actions)
        return self._symmetry.actions(actions)
