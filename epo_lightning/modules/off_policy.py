"""What algorithms share that learn two critics and an actor in turns from a replay buffer.

Shape legend: B samples.
"""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from epo_lightning.algorithm.population import Population
from epo_lightning.algorithm.sac import polyak_average
from epo_lightning.experience.base import require_alternation
from epo_lightning.experience.off_policy import ReplayDataset, replay_shape, stream_needs
from epo_lightning.experience.replay import CAPACITY, ReplaySettings, ReplayShape, Ring, Sample
from epo_lightning.experience.world import World
from epo_lightning.learner.adamw import AdamWSettings, build_adamw, restart_adamw
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.learner.memory import Need, require_memory
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.learner.q_networks import SACNetworkSettings, TwinCritic
from epo_lightning.limits import require_range
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.idle_settings import idle_encoders
from epo_lightning.modules.stepper import Stepper


class OffPolicyModule(PopulationModule, Generic[Sample]):
    """One agent whose critics learn after each env step of all environments, and its actor in every few updates.

    Args:
        diagnostics: Names of what the critics' loss tells of itself.
        network: Actor and critics.
        optimizer: AdamW, and how often it steps.
        replay: What is remembered.
        tau: Share of the critics' weights that moves into their target nets after each update.

    Attributes:
        critic: Both critics.
        target_critic: What follows them slowly.
        beside_critics: Parameters that learn with the critics, and whose weights do not decay.
    """

    changeable = ("network.obs_clip",)
    unscaled = "its losses are not scaled"
    num_agents = 1
    policy: NormalizingPolicy

    def __init__(
        self,
        diagnostics: Sequence[str],
        network: SACNetworkSettings | PQLNetworkSettings,
        optimizer: AdamWSettings,
        replay: ReplaySettings,
        tau: float,
    ) -> None:
        super().__init__(diagnostics)
        updates = replay.horizon * optimizer.updates_per_step
        require_range("model.optimizer.actor_every (of the updates in an iteration)", optimizer.actor_every, 1, updates)
        self.critic_settings, self.optimizer_settings, self.replay_settings = network, optimizer, replay
        self.tau = tau
        self.beside_critics: list[nn.Parameter] = []
        self._actor_losses: list[Tensor] = []

    # What differs ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def build_buffer(self, shape: ReplayShape, device: torch.device) -> Ring[Sample]:
        """What remembers."""

    @abstractmethod
    def values_loss(self, obs: Tensor, next_obs: Tensor, batch: Sample) -> tuple[Tensor, Tensor]:
        """Loss () of the critics, and of what learns beside them, and its diagnostics, for normalised observations."""

    @abstractmethod
    def policy_loss(self, obs: Tensor) -> Tensor:
        """Loss () of the actor, by critics that are not changed, for normalised observations."""

    # Training -------------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """The actor, the critics and their target nets."""
        if not hasattr(self, "policy"):
            super().configure_model()
            spec = self.data.spec
            self.critic = TwinCritic(spec.obs_dim, spec.act_dim, self.critic_settings, spec.groups)
            self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def experience(self, world: World) -> ReplayDataset[Sample]:
        """Env steps into a replay buffer, whose size in memory is printed."""
        shape = replay_shape(world, self.replay_settings)
        needed, *_ = [require_memory(each.nbytes, world.device, each.key, each.value) for each in self.needs(shape)]
        rank_zero_info(f"Replay memory: {needed}")
        if idle := idle_encoders(self.critic_settings, world.env.spec.groups):
            rank_zero_info(idle)
        return self.stream(world, self.build_buffer(shape, world.device))

    def needs(self, shape: ReplayShape) -> list[Need]:
        """What is allocated by numbers that may be too large, the replay first."""
        return [
            Need(Ring.nbytes(shape), CAPACITY, shape.capacity_per_env),
            *stream_needs(shape, self.replay_settings, self.optimizer_settings.updates_per_step),
        ]

    def require_envs(self, num_envs: int, *, in_halves: bool) -> None:
        """In one piece."""
        if in_halves:
            require_alternation(Population(self.num_agents, num_envs), alternates=ReplayDataset.alternates)

    def stream(self, world: World, buffer: Ring[Sample]) -> ReplayDataset[Sample]:
        """The experience that fills `buffer`."""
        updates = self.optimizer_settings.updates_per_step
        return ReplayDataset(world, self.policy, self.replay_settings, updates, buffer)

    def configure_optimizers(self) -> torch.optim.AdamW:
        """One AdamW for everything; what has no gradient in a step is left alone."""
        networks = {"actor": [*self.policy.parameters()], "critic": [*self.critic.parameters()]}
        return build_adamw(networks, self.beside_critics, self.optimizer_settings)

    def on_train_start(self) -> None:
        """What was restored obeys the present settings; modules take long to list their parameters."""
        restart_adamw(self._adamw(), self.optimizer_settings)
        self._actor_weights, self._critic_weights = [*self.policy.parameters()], [*self.critic.parameters()]
        self._target_weights = [*self.target_critic.parameters()]

    def update(self, batch: list[Any]) -> None:
        """One update of the critics on each minibatch, and of the actor on every few."""
        if not batch:
            return
        stepper = Stepper(self.trainer, self._adamw(), self.optimizer_settings.max_grad_norm)
        moments = self.policy.obs_moments
        for minibatch in batch:
            obs = moments.normalize(minibatch.obs)
            loss, diagnostics = self.values_loss(obs, moments.normalize(minibatch.next_obs), minibatch)
            grad_norm = stepper.step_for([*self._critic_weights, *self.beside_critics], loss)
            self.minibatches.add(loss, diagnostics, grad_norm)
            polyak_average(self._target_weights, self._critic_weights, self.tau)
            if len(self.minibatches.totals) % self.optimizer_settings.actor_every == 0:
                actor_loss = self.policy_loss(obs)
                self._actor_losses.append(actor_loss.detach())
                self.minibatches.grad_norms.append(stepper.step_for(self._actor_weights, actor_loss))

    def _adamw(self) -> torch.optim.AdamW:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.AdamW)
        return optimizer

    # The population -------------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> ReplayDataset[Sample]:
        """The experience of the training that runs."""
        dataset = super().dataset
        assert isinstance(dataset, ReplayDataset)
        return dataset

    def scalars(self) -> dict[str, Tensor]:
        """The actor's loss, where it learnt, and how many steps are remembered."""
        losses, self._actor_losses = self._actor_losses, []
        actor = {"losses/actor_loss": torch.stack(losses).mean()} if losses else {}
        filled = torch.tensor(float(self.dataset.buffer.filled), device=self.policy.device)
        return {**actor, "charts/replay_steps": filled}
