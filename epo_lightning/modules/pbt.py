"""Population-based training: K agents that share nothing, trained by PPO at the same time, each by its own settings.

Shape legend: K agents, A of them that learn, M agents that change.
"""

from collections.abc import Mapping
from dataclasses import asdict

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from epo_lightning.algorithm.independent import (
    DIAGNOSTICS,
    Coefficients,
    IndependentBatch,
    IndependentLosses,
    IndependentLossSettings,
    independent_losses,
)
from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec
from epo_lightning.experience.base import require_alternation
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.independent import IndependentDataset, independent_shape, minibatches_of_each
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.experience.world import World
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.hyper_parameters import OF_THE_LEARNER, REWARD, HyperParameters
from epo_lightning.learner.initial import InitialSettings, scale_first_actions
from epo_lightning.learner.optimizer import OptimizerSettings
from epo_lightning.learner.stacked import rows_of
from epo_lightning.learner.stacked_adam import Pace, StackedAdam, adapted_rates
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.limits import require_range
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.idle_settings import idle_encoders, idle_noise
from epo_lightning.modules.rollout_cost import tell_cost
from epo_lightning.modules.stepper import Stepper

_KL = DIAGNOSTICS.index("approx_kl")


class PBTModule(PopulationModule):
    """PPO of K agents side by side; `epo_lightning.callbacks` adds what selects among them.

    Every agent has a network, normalisers, Adam's moments and hyper-parameters of its own, and learns from its own
    environments in minibatches of its own: K trainings in one.

    Args:
        num_agents: K.
        network: Of every agent.
        loss: What every agent's loss begins with.
        optimizer: What every agent's Adam begins with.
        rollout: How experience is collected and used; discount and number of passes are what every agent begins with.
        initial: What every agent's new network begins with.

    Attributes:
        hyper_parameters: Of every agent; there are none before `configure_model`.
    """

    unscaled = "one scale of the loss would couple the agents of pbt, which share nothing"
    changeable = tuple(f"network.{name}" for name in ("log_std_init", "log_std_min", "log_std_max", "obs_clip"))
    policy: StackedActorCritic
    hyper_parameters: HyperParameters

    def __init__(
        self,
        num_agents: int = 8,
        network: ActorCriticSettings = ActorCriticSettings(),  # noqa: B008  (frozen)
        loss: IndependentLossSettings = IndependentLossSettings(),  # noqa: B008
        optimizer: OptimizerSettings = OptimizerSettings(),  # noqa: B008
        rollout: OnPolicySettings = OnPolicySettings(),  # noqa: B008
        initial: InitialSettings = InitialSettings(),  # noqa: B008
    ) -> None:
        super().__init__(DIAGNOSTICS)
        require_range("model.num_agents", num_agents, 1)
        self.num_agents = num_agents
        self.network_settings, self.loss_settings = network, loss
        self.optimizer_settings, self.rollout_settings, self.initial_settings = optimizer, rollout, initial

    @property
    def model_settings(self) -> dict[str, object]:
        """Everything that says what the weights mean."""
        network = {f"network.{name}": value for name, value in asdict(self.network_settings).items()}
        return {"num_agents": self.num_agents, **network}

    @classmethod
    def build_policy(cls, identity: Identity) -> StackedActorCritic:
        """The networks."""
        settings = identity.settings("network", ActorCriticSettings)
        agents = identity.model["num_agents"]
        return StackedActorCritic(
            identity.obs_dim, identity.act_dim, agents, settings, identity.discrete, identity.groups
        )

    def configure_model(self) -> None:
        """The networks, and what each of them learns by."""
        if not hasattr(self, "policy"):
            super().configure_model()
            scale_first_actions(self.policy, self.initial_settings)
        if not hasattr(self, "hyper_parameters"):
            self.hyper_parameters = HyperParameters(self.num_agents, self.initial())

    def initial(self) -> dict[str, float]:
        """What every agent begins with."""
        env = self.data.env or self.data.eval_env
        assert env is not None, "the environments are not built"
        loss, optimizer, rollout = self.loss_settings, self.optimizer_settings, self.rollout_settings
        return {
            "learning_rate": optimizer.learning_rate,
            "clip": loss.clip_eps,
            "entropy": loss.entropy_coefficient,
            "gamma": rollout.gamma,
            "target_kl": torch.nan if optimizer.target_kl is None else optimizer.target_kl,
            "max_grad_norm": optimizer.max_grad_norm,
            "num_epochs": rollout.num_epochs,
            "critic": loss.value_coefficient,
            "bounds": loss.bound_coefficient,
            **{f"{REWARD}{name}": value for name, value in env.reward_parameters().items()},
        }

    def require_envs(self, num_envs: int, *, in_halves: bool) -> None:
        """By agents, halves and minibatches."""
        spec = EnvSpec("", num_envs, obs_dim=1, act_dim=1)  # whatever they observe
        population, settings = Population(self.num_agents, num_envs), self.rollout_settings
        if in_halves:
            require_alternation(population, alternates=IndependentDataset.alternates)
        minibatches_of_each(settings, independent_shape(spec, self.network_settings.state_shape, population, settings))

    def experience(self, world: World) -> IndependentDataset:
        """Rollouts; prints what memory they take, and the time where a CPU will need long for them."""
        population, settings = Population(self.num_agents, world.env.spec.num_envs), self.rollout_settings
        dataset = IndependentDataset(world, self.policy, population, settings, self.hyper_parameters)
        passes, remedy = settings.num_epochs * settings.passes, "lower data.num_envs and model.network.hidden"
        tell_cost(world, self.policy, dataset.buffer.shape, passes, remedy)
        if world.device.type == "cuda":
            rank_zero_info(f"Memory: {dataset.room}")
        spec = world.env.spec
        for idle in (idle_encoders(self.network_settings, spec.groups), idle_noise(settings, spec.discrete)):
            if idle:
                rank_zero_info(idle)
        return dataset

    def configure_optimizers(self) -> StackedAdam:
        """One Adam for everything, with a learning rate for every agent."""
        return StackedAdam(parameter for parameter in self.policy.parameters() if parameter.requires_grad)

    def on_train_start(self) -> None:
        """What was restored obeys the present settings, where they are others than those it began with."""
        table, settings = self.hyper_parameters, self.optimizer_settings
        table.restart(self.initial())
        rates, none = table["learning_rate"], torch.zeros_like(table["learning_rate"])
        bounds = settings.learning_rate_min, settings.learning_rate_max
        rates.copy_(adapted_rates(rates, none, table["target_kl"] * none, bounds))
        self._tell_rewards()
        self.policy.clamp_log_std()

    # The update -----------------------------------------------------------------------------------------------------

    def update(self, batch: RolloutBuffer) -> None:
        """Passes over one rollout, as many as each agent makes, in `num_minibatches` optimizer steps each."""
        stepper = Stepper(self.trainer, self._adam())
        epochs = self.hyper_parameters["num_epochs"].round().tolist()  # the host waits once
        for epoch in range(int(max(epochs))):
            some = [agent for agent, number in enumerate(epochs) if number > epoch]
            self._one_pass(None if len(some) == self.num_agents else torch.tensor(some, device=self.device), stepper)
        self.dataset.of_agents["learning_rate"] = self.hyper_parameters["learning_rate"].clone()

    def _one_pass(self, agents: Tensor | None, stepper: Stepper) -> None:
        """One optimizer step of some agents (A,), or of all, on every minibatch; then learning rates are adapted."""
        table, settings = self.hyper_parameters, self.optimizer_settings
        given = {name: rows_of(table[name], agents) for name in OF_THE_LEARNER}
        coefficients = Coefficients(*(given[name].float() for name in Coefficients._fields))
        pace = Pace(given["learning_rate"], given["max_grad_norm"])
        pairs = self.dataset.one_pass_with_images(agents)
        kl = [self._learn(batch, image, agents, coefficients, pace, stepper) for batch, image in pairs]
        divergence = torch.stack(kl).mean(0).double()
        if self.trainer.world_size > 1:
            dist.all_reduce(divergence)
            divergence /= self.trainer.world_size
        bounds = settings.learning_rate_min, settings.learning_rate_max
        rates = adapted_rates(pace.learning_rate, divergence, given["target_kl"], bounds)
        if agents is None:
            table["learning_rate"].copy_(rates)
        else:
            table["learning_rate"][agents] = rates

    def _learn(
        self,
        batch: IndependentBatch,
        image: IndependentBatch | None,
        agents: Tensor | None,
        coefficients: Coefficients,
        pace: Pace,
        stepper: Stepper,
    ) -> Tensor:
        """One optimizer step of every agent that learns; returns their KL divergences from who acted, (A,)."""
        losses = self._losses(batch, agents, coefficients)
        totals = losses.total
        if image is not None:
            totals = 0.5 * (totals + self._losses(image, agents, coefficients).total)
        stepper.backward(totals.sum())
        norms = self._adam().advance(pace, agents)
        stepper.count()
        self.policy.clamp_log_std()
        self.minibatches.add(totals.mean(), losses.diagnostics.mean(1), norms.mean())
        return losses.diagnostics[_KL]

    def _losses(self, batch: IndependentBatch, agents: Tensor | None, coefficients: Coefficients) -> IndependentLosses:
        output = self.policy.of_blocks(batch.obs, batch.states, batch.resets, agents)
        clip = self.loss_settings.value_clip_eps
        return independent_losses(output.actions, output.value, batch, coefficients, clip)

    def _adam(self) -> StackedAdam:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, StackedAdam)
        return optimizer

    # The population -------------------------------------------------------------------------------------------------

    @property
    def champion(self) -> int:
        """Who is evaluated, and whose results are the run's: agent 0 until somebody is named."""
        return self.policy.champion

    @champion.setter
    def champion(self, agent: int) -> None:
        self.policy.champion = agent

    def adopt(self, agents: Tensor, parents: Tensor, with_weights: Tensor, values: Mapping[str, Tensor]) -> None:
        """Other individuals take the rows of `agents`: what selects among them has no other way in.

        Who gets weights gets normalisers, Adam's moments and its count of steps, too, and the learning rate, unless
        `values` tells one. Episodes of `agents`, finished and running, stop counting.

        Args:
            agents: (M,) ids.
            parents: (M,) ids: whose weights, where they are taken; as they are before this call.
            with_weights: (M,) bool: whether they are.
            values: (M,) of each hyper-parameter that changes.
        """
        heirs, sources = (each[with_weights].to(self.device) for each in (agents, parents))
        rates = {"learning_rate": self.hyper_parameters["learning_rate"][sources]}
        self.policy.copy_agents(heirs, sources)
        self._adam().copy_networks(heirs, sources)
        self.hyper_parameters.write(heirs, rates)
        self.hyper_parameters.write(agents, values)
        self._tell_rewards()
        self.dataset.start_new_gene(agents)
        self.dataset.forget_episodes(agents)

    def _tell_rewards(self) -> None:
        """The environments of each agent pay by its reward parameters."""
        rewards, envs = self.hyper_parameters.of_reward(), self.dataset.population.envs_per_agent
        if rewards:
            self.dataset.env.set_reward_parameters(
                {name: value.float().repeat_interleave(envs) for name, value in rewards.items()}
            )

    @property
    def dataset(self) -> IndependentDataset:
        """The rollouts of the training that runs."""
        dataset = super().dataset
        assert isinstance(dataset, IndependentDataset)
        return dataset

    def scalars(self) -> dict[str, Tensor]:
        """The mean learning rate, and how wide actions are spread."""
        return {
            "charts/learning_rate": self.hyper_parameters["learning_rate"].mean(),
            "population/log_std": self.policy.log_std.mean(),
        }
