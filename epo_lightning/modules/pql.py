"""Parallel Q-Learning: DDPG with two critics, n-step returns and mixed exploration, for thousands of environments.

Shape legend: B samples.
"""

from dataclasses import asdict

import torch
from torch import Tensor

from epo_lightning.algorithm.pql import PQLLossSettings, actor_loss, critic_loss, critic_targets, smooth
from epo_lightning.experience.n_step import ExplorationSettings, MixedReplayDataset, NStepBuffer
from epo_lightning.experience.replay import NStepTransitions, ReplaySettings, ReplayShape, Ring
from epo_lightning.experience.world import World
from epo_lightning.learner.adamw import AdamWSettings
from epo_lightning.learner.deterministic import DeterministicActor, PQLNetworkSettings
from epo_lightning.learner.memory import Need
from epo_lightning.learner.q_networks import require_continuous
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.off_policy import OffPolicyModule

DIAGNOSTICS = ("critic_loss", "value")
"""What each update tells: the critics' loss, and what they expect of the samples."""
OPTIMIZER = AdamWSettings(5e-4, (0.9, 0.999), weight_decay=0.01, max_grad_norm=0.5, actor_every=2)
REPLAY = ReplaySettings(capacity_per_env=1220, warmup=32)
"""Five million transitions of 4,096 environments."""


class PQLModule(OffPolicyModule[NStepTransitions]):
    """Parallel Q-Learning (PQL), and PQL-D where the critics have atoms.

    Three things run at speeds of their own: for every env step of all environments the critics make `updates_per_step`
    updates, and the actor one in every `actor_every` of them. They take turns in one process, in a fixed order.

    Args:
        network: Actor and critics.
        loss: Targets.
        exploration: Noise on the actions.
        optimizer: AdamW, and how often it steps.
        replay: What is remembered.
    """

    is_deterministic = True
    policy: DeterministicActor

    def __init__(
        self,
        network: PQLNetworkSettings = PQLNetworkSettings(),  # noqa: B008  (frozen)
        loss: PQLLossSettings = PQLLossSettings(),  # noqa: B008
        exploration: ExplorationSettings = ExplorationSettings(),  # noqa: B008
        optimizer: AdamWSettings = OPTIMIZER,
        replay: ReplaySettings = REPLAY,
    ) -> None:
        super().__init__(DIAGNOSTICS, network, optimizer, replay, loss.tau)
        self.network_settings, self.loss_settings, self.exploration_settings = network, loss, exploration

    @property
    def model_settings(self) -> dict[str, object]:
        """Everything that says what the weights mean."""
        return {f"network.{name}": value for name, value in asdict(self.network_settings).items()}

    @classmethod
    def build_policy(cls, identity: Identity) -> DeterministicActor:
        """The actor."""
        require_continuous(identity.task, identity.discrete)
        settings = identity.settings("network", PQLNetworkSettings)
        return DeterministicActor(identity.obs_dim, identity.act_dim, settings, identity.groups)

    def needs(self, shape: ReplayShape) -> list[Need]:
        """Also the steps that wait until their return is known."""
        n_step = self.loss_settings.n_step
        return [*super().needs(shape), Need(NStepBuffer.waiting_nbytes(shape, n_step), "model.loss.n_step", n_step)]

    def build_buffer(self, shape: ReplayShape, device: torch.device) -> NStepBuffer:
        """Windows of n steps."""
        return NStepBuffer(shape, device, self.loss_settings.n_step, self.loss_settings.gamma)

    def stream(self, world: World, buffer: Ring[NStepTransitions]) -> MixedReplayDataset:
        """Env steps with mixed exploration."""
        assert isinstance(buffer, NStepBuffer)
        updates, exploration = self.optimizer_settings.updates_per_step, self.exploration_settings
        return MixedReplayDataset(world, self.policy, self.replay_settings, updates, buffer, exploration)

    def values_loss(self, obs: Tensor, next_obs: Tensor, batch: NStepTransitions) -> tuple[Tensor, Tensor]:
        """That of the critics: the target nets are asked about what the present actor does next, smoothed."""
        settings = self.loss_settings
        with torch.no_grad():
            actions = self.policy(next_obs)
            noise = torch.empty_like(actions).normal_(generator=self.dataset.generator)
            following = self.target_critic(next_obs, smooth(actions, noise, settings))
            targets = critic_targets(following, batch.rewards, batch.discount, settings)
        values = self.critic(obs, batch.actions)
        loss = critic_loss(values, targets)
        return loss, torch.stack([loss.detach(), values.mean().detach().mean()])

    def policy_loss(self, obs: Tensor) -> Tensor:
        """Minus the smaller of the values of what the actor does."""
        return actor_loss(self.critic(obs, self.policy(obs)))
