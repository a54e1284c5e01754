"""What turns a collected rollout into something to learn from: normalisation, targets, advantages.

Shape legend: N environments, T horizon, W columns: N, and those of relabelled samples where there are some.
"""

from torch import Tensor

from epo_lightning.algorithm.advantages import bootstrap_values, gae_targets, n_step_targets
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.episodes import explained_variance
from epo_lightning.experience.mirror import Mirror
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.learner.actor_critic import ActorCritic
from epo_lightning.learner.normalization import Pending, normalize_across_ranks


class Targets:
    """Completes the buffer of a rollout, under the parameters that it was collected with.

    Args:
        buffer: Raw observations, actions, log-probs, values and outcomes of T steps.
        policy: The network that acted; its normalisers take the rollout in.
        settings: Of the rollout.
        mirror: Of the samples; None where their images are not learned from.

    Attributes:
        diagnostics: Scalars for the log, once the rollout is complete.
    """

    def __init__(
        self, buffer: RolloutBuffer, policy: ActorCritic, settings: OnPolicySettings, mirror: Mirror | None = None
    ) -> None:
        self.buffer, self.policy, self.settings, self.mirror = buffer, policy, settings, mirror
        self.diagnostics: dict[str, Tensor] = {}

    def complete(self, last_value: Tensor) -> None:
        """Fill in everything that the losses need, in normalised units; `last_value` (N,) follows the last step."""
        news = self._normalize_observations()
        buffer, moments, envs = self.buffer, self.policy.value_moments, self.buffer.envs
        buffer.values[-1, :envs] = last_value
        own_values = moments.denormalize(buffer.values[:, :envs])
        final_values = moments.denormalize(buffer.final_values)
        values, targets = own_values[:-1], self._on_policy_targets(self._own_rewards(), own_values, final_values)
        self.diagnostics["losses/explained_variance"] = self._explained_variance(values, targets)
        values, targets, learnt = self._with_relabelled(values, targets)
        scale = self.policy.value_scale()
        observed, valued = (self.policy.obs_moments, news), (moments, moments.seen(learnt))
        buffer.advantages.copy_(self._normalized(targets - values, observed, valued))  # one call for all three
        self.policy.keep_values(*scale)
        moments.normalize(values, out=buffer.values[:-1])
        moments.normalize(targets, out=buffer.targets)

    def _rewards(self) -> Tensor:
        """(T, N) of the task, as the critic sees them."""
        return self.buffer.rewards * self.settings.reward_scale

    def _own_rewards(self) -> Tensor:
        """(T, N) what the agents that acted learn from."""
        return self._rewards()

    def _with_relabelled(self, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values and targets (T, W), and the targets that the critic learns, from those (T, N) of the agents' own."""
        return values, targets, targets

    @property
    def gamma(self) -> float | Tensor:
        """Discount; (N,) where it is not the same in all environments."""
        return self.settings.gamma

    def _normalized(self, advantages: Tensor, *beside: Pending) -> Tensor:
        """Over all samples of all ranks; `beside` is merged in the same collective call."""
        return normalize_across_ranks(advantages, *beside)

    def _explained_variance(self, values: Tensor, targets: Tensor) -> Tensor:
        return explained_variance(values, targets)

    def _normalize_observations(self) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise in place with the moments the rollout was made with; returns those of its observations.

        Where their mirror images are learned from, those are among them, too.
        """
        moments = self.policy.obs_moments
        collected = self.buffer.obs[:, : self.buffer.envs]
        news = moments.of(collected[:-1])
        moments.normalize(collected, out=collected)
        if self.mirror is not None:
            self.mirror.begin(moments)
            news = self.mirror.both(*news)
            self.mirror.roll(self.buffer)
        return news

    def _on_policy_targets(self, rewards: Tensor, values: Tensor, final_values: Tensor) -> Tensor:
        """(T, N) targets of the agents' own samples; `values` is (T + 1, N)."""
        buffer, settings = self.buffer, self.settings
        done = buffer.terminated | buffer.truncated
        following = bootstrap_values(values, final_values, buffer.terminated, buffer.truncated)
        if settings.estimator == "gae":
            return gae_targets(rewards, values[:-1], following, done, self.gamma, settings.gae_lambda)
        return n_step_targets(rewards, following, done, self.gamma, settings.n_step)
