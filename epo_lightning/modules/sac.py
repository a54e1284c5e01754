"""Soft actor-critic in its massively parallel form: many environments, large minibatches, few and slow targets.

Shape legend: B samples.
"""

import math
from dataclasses import asdict

import torch
from torch import Tensor, nn

from epo_lightning.algorithm.sac import SACLossSettings, actor_loss, critic_targets, temperature_loss
from epo_lightning.experience.replay import ReplayBuffer, ReplaySettings, ReplayShape, Transitions
from epo_lightning.learner.adamw import AdamWSettings
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor, require_continuous
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.off_policy import OffPolicyModule

DIAGNOSTICS = ("critic_loss", "value", "entropy")
"""What each update tells: the critics' loss, what they expect of the samples, and the policy's entropy."""


class SACModule(OffPolicyModule[Transitions]):
    """Soft actor-critic for thousands of environments (FastSAC).

    After each env step of all environments the critics learn from `updates_per_step` minibatches of what is remembered,
    and the actor from every few of them.

    Args:
        network: Actor and critics.
        loss: Targets and entropy.
        optimizer: AdamW, and how often it steps.
        replay: What is remembered.
    """

    policy: SquashedActor

    def __init__(
        self,
        network: SACNetworkSettings = SACNetworkSettings(),  # noqa: B008  (frozen)
        loss: SACLossSettings = SACLossSettings(),  # noqa: B008
        optimizer: AdamWSettings = AdamWSettings(),  # noqa: B008
        replay: ReplaySettings = ReplaySettings(),  # noqa: B008
    ) -> None:
        super().__init__(DIAGNOSTICS, network, optimizer, replay, loss.tau)
        self.network_settings, self.loss_settings = network, loss
        self.log_temperature = nn.Parameter(torch.tensor(math.log(loss.temperature)))
        self.beside_critics = [self.log_temperature]

    @property
    def model_settings(self) -> dict[str, object]:
        """Everything that says what the weights mean."""
        return {f"network.{name}": value for name, value in asdict(self.network_settings).items()}

    @classmethod
    def build_policy(cls, identity: Identity) -> SquashedActor:
        """The actor."""
        require_continuous(identity.task, identity.discrete)
        settings = identity.settings("network", SACNetworkSettings)
        return SquashedActor(identity.obs_dim, identity.act_dim, settings, identity.groups)

    def build_buffer(self, shape: ReplayShape, device: torch.device) -> ReplayBuffer:
        """Single steps."""
        return ReplayBuffer(shape, device)

    def values_loss(self, obs: Tensor, next_obs: Tensor, batch: Transitions) -> tuple[Tensor, Tensor]:
        """That of the critics and of the temperature."""
        settings = self.loss_settings
        with torch.no_grad():
            draw = self.policy(next_obs).sample(self.dataset.generator)
            following = self.target_critic(next_obs, draw.actions)
            temperature = self.log_temperature.exp()
            targets = critic_targets(following, draw.log_probs, batch.rewards, batch.terminated, temperature, settings)
        values = self.critic(obs, batch.actions)
        loss = values.loss(targets)
        excess = temperature_loss(self.log_temperature, draw.log_probs, settings, draw.actions.shape[-1])
        diagnostics = torch.stack([loss.detach(), values.mean().detach().mean(), -draw.log_probs.mean()])
        return loss + excess, diagnostics

    def policy_loss(self, obs: Tensor) -> Tensor:
        """Temperature times log density minus value, of actions that the actor draws."""
        draw = self.policy(obs).sample(self.dataset.generator)
        values = self.critic(obs, draw.actions)
        return actor_loss(values, draw.log_probs, self.log_temperature.exp(), self.loss_settings)

    def scalars(self) -> dict[str, Tensor]:
        """Also the temperature."""
        return {**super().scalars(), "charts/temperature": self.log_temperature.exp()}
