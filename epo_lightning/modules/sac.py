"""Soft actor-critic in its massively parallel form: many environments, large minibatches, few and slow targets.

Shape legend: B samples.
"""

import copy
import math
from dataclasses import asdict

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from epo_lightning.algorithm.sac import SACLossSettings, actor_loss, critic_targets, polyak_average, temperature_loss
from epo_lightning.experience.memory import require_memory
from epo_lightning.experience.off_policy import ReplayDataset, replay_shape
from epo_lightning.experience.replay import CAPACITY, ReplayBuffer, ReplaySettings, Transitions
from epo_lightning.experience.world import World
from epo_lightning.learner.adamw import SACOptimizerSettings, build_adamw, restart_adamw
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor, TwinCritic, require_continuous
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.stepper import Stepper

DIAGNOSTICS = ("critic_loss", "value", "entropy")
"""What each update tells: the critics' loss, what they expect of the samples, and the policy's entropy."""


class SACModule(PopulationModule):
    """Soft actor-critic for thousands of environments (FastSAC).

    After each env step of all environments the critics learn from `updates_per_step` minibatches of what is remembered,
    and the actor from every few of them.

    Args:
        network: Actor and critics.
        loss: Targets and entropy.
        optimizer: AdamW, and how often it steps.
        replay: What is remembered.
    """

    changeable = ("network.obs_clip",)
    num_agents = 1
    policy: SquashedActor

    def __init__(
        self,
        network: SACNetworkSettings = SACNetworkSettings(),  # noqa: B008  (frozen)
        loss: SACLossSettings = SACLossSettings(),  # noqa: B008
        optimizer: SACOptimizerSettings = SACOptimizerSettings(),  # noqa: B008
        replay: ReplaySettings = ReplaySettings(),  # noqa: B008
    ) -> None:
        super().__init__(DIAGNOSTICS)
        updates = replay.horizon * optimizer.updates_per_step
        require_range("model.optimizer.actor_every (of the updates in an iteration)", optimizer.actor_every, 1, updates)
        self.network_settings, self.loss_settings = network, loss
        self.optimizer_settings, self.replay_settings = optimizer, replay
        self.log_temperature = nn.Parameter(torch.tensor(math.log(loss.temperature)))
        self._actor_losses: list[Tensor] = []

    @property
    def model_settings(self) -> dict[str, object]:
        """Everything that says what the weights mean."""
        return {f"network.{name}": value for name, value in asdict(self.network_settings).items()}

    @classmethod
    def build_policy(cls, identity: Identity) -> SquashedActor:
        """The actor."""
        require_continuous(identity.task, identity.discrete)
        return SquashedActor(identity.obs_dim, identity.act_dim, identity.settings("network", SACNetworkSettings))

    def configure_model(self) -> None:
        """The actor, the critics and their target nets."""
        if not hasattr(self, "policy"):
            super().configure_model()
            spec = self.data.spec
            self.critic = TwinCritic(spec.obs_dim, spec.act_dim, self.network_settings)
            self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)

    def experience(self, world: World) -> ReplayDataset:
        """Env steps into a replay buffer, whose memory is told."""
        nbytes = ReplayBuffer.nbytes(replay_shape(world, self.replay_settings))
        capacity = self.replay_settings.capacity_per_env
        rank_zero_info(f"Replay memory: {require_memory(nbytes, world.device, CAPACITY, capacity)}")
        return ReplayDataset(world, self.policy, self.replay_settings, self.optimizer_settings.updates_per_step)

    def configure_optimizers(self) -> torch.optim.AdamW:
        """One AdamW for everything; what has no gradient in a step is left alone."""
        if self.trainer.precision == "16-mixed":
            raise Mistake("trainer.precision 16-mixed: the losses of SAC are not scaled; use bf16-mixed or 32-true")
        networks = {"actor": [*self.policy.parameters()], "critic": [*self.critic.parameters()]}
        return build_adamw(networks, [self.log_temperature], self.optimizer_settings)

    def on_train_start(self) -> None:
        """What was restored obeys the present settings; modules take long to list their parameters."""
        restart_adamw(self._adamw(), self.optimizer_settings)
        self._actor_weights, self._critic_weights = [*self.policy.parameters()], [*self.critic.parameters()]
        self._target_weights = [*self.target_critic.parameters()]

    # The update -----------------------------------------------------------------------------------------------------

    def update(self, batch: list[Transitions]) -> None:
        """One update of the critics on each minibatch, and of the actor on every few."""
        if not batch:
            return
        stepper = Stepper(self.trainer, self._adamw(), self.optimizer_settings.max_grad_norm)
        for minibatch in batch:
            moments = self.policy.obs_moments
            obs = moments.normalize(minibatch.obs)
            self._learn_values(obs, moments.normalize(minibatch.next_obs), minibatch, stepper)
            if len(self.minibatches.totals) % self.optimizer_settings.actor_every == 0:
                self._learn_to_act(obs, stepper)

    def _learn_values(self, obs: Tensor, next_obs: Tensor, batch: Transitions, stepper: Stepper) -> None:
        """The critics, the temperature and the target nets."""
        settings = self.loss_settings
        with torch.no_grad():
            draw = self.policy(next_obs).sample(self.dataset.generator)
            following = self.target_critic(next_obs, draw.actions)
            temperature = self.log_temperature.exp()
            targets = critic_targets(following, draw.log_probs, batch.rewards, batch.terminated, temperature, settings)
        values = self.critic(obs, batch.actions)
        loss = values.loss(targets)
        act_dim = draw.actions.shape[-1]
        excess = temperature_loss(self.log_temperature, draw.log_probs, settings, act_dim)
        diagnostics = torch.stack([loss.detach(), values.mean().detach().mean(), -draw.log_probs.mean()])
        grad_norm = stepper.step_for([*self._critic_weights, self.log_temperature], loss + excess)
        self.minibatches.add(loss + excess, diagnostics, grad_norm)
        polyak_average(self._target_weights, self._critic_weights, settings.tau)

    def _learn_to_act(self, obs: Tensor, stepper: Stepper) -> None:
        """The actor, by critics that are not changed."""
        draw = self.policy(obs).sample(self.dataset.generator)
        values = self.critic(obs, draw.actions)
        loss = actor_loss(values, draw.log_probs, self.log_temperature.exp(), self.loss_settings)
        self._actor_losses.append(loss.detach())
        self.minibatches.grad_norms.append(stepper.step_for(self._actor_weights, loss))

    def _adamw(self) -> torch.optim.AdamW:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.AdamW)
        return optimizer

    # The population -------------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> ReplayDataset:
        """The experience of the training that runs."""
        dataset = super().dataset
        assert isinstance(dataset, ReplayDataset)
        return dataset

    def scalars(self) -> dict[str, Tensor]:
        """The actor's loss, where it learnt, the temperature, and how many steps are remembered."""
        losses, self._actor_losses = self._actor_losses, []
        actor = {"losses/actor_loss": torch.stack(losses).mean()} if losses else {}
        filled = torch.tensor(float(self.dataset.buffer.filled))
        temperature = self.log_temperature.exp()
        return {**actor, "charts/temperature": temperature, "charts/replay_steps": filled.to(temperature.device)}
