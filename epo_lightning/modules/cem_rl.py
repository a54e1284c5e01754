"""CEM-RL: a distribution over actors, whose members are measured, and half of whom learn by gradient before.

Shape legend: K agents, P = K - 1 members, G of them learn by gradient, B samples, D parameters of an actor.
"""

import copy
import math
from dataclasses import asdict

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from epo_lightning.algorithm.cem import CEMSettings, Distribution, draw, update
from epo_lightning.algorithm.population import MASTER, Population
from epo_lightning.algorithm.pql import PQLLossSettings, critic_loss, critic_targets, smooth
from epo_lightning.algorithm.sac import polyak_average
from epo_lightning.experience.base import require_alternation
from epo_lightning.experience.generation import (
    Generation,
    GenerationDataset,
    GenerationReplaySettings,
    GenerationSettings,
)
from epo_lightning.experience.n_step import NStepBuffer
from epo_lightning.experience.replay import CAPACITY, ReplayShape, Ring
from epo_lightning.experience.streams import Stream, derive_seed
from epo_lightning.experience.world import World
from epo_lightning.learner.adam import CEMOptimizerSettings
from epo_lightning.learner.memory import require_memory
from epo_lightning.learner.q_networks import TwinCritic, require_continuous
from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor
from epo_lightning.learner.stacked_critic import StackedCritic
from epo_lightning.limits import require_range
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.idle_settings import idle_encoders
from epo_lightning.modules.stepper import Stepper

DIAGNOSTICS = ("critic_loss", "value")
"""What each update of the critics tells: their loss, and what they expect of the samples."""
TD3 = PQLLossSettings(n_step=1, tau=0.005, smoothing_sigma=0.2, smoothing_clip=0.5)
"""CEM-RL's own targets: those of TD3."""


class CEMRLModule(PopulationModule):
    """CEM-RL with TD3's critics. An iteration is a generation.

    Agent 0, the master, is the mean of the distribution: it plays like everybody else and is what is evaluated. The
    others are drawn around it, and `gradient_members` of them climb the critics before they play. Whoever plays is
    measured alike, and the best members move the distribution.

    Args:
        num_agents: K, the mean and the members; they share the environments in equal parts.
        network: Actors and critics.
        evolution: How members are drawn and chosen.
        loss: Targets of the critics.
        optimizer: Adam, and how often it steps.
        replay: What is remembered.
        generation: How long a generation lasts.

    Attributes:
        critic: Both critics, which all actors share.
        target_critic: What follows them slowly.
        variance: (D,) of the distribution; its mean is the first agent.
        damping: () float64, what is added to the variance next.
        drawn: () int64, how often members were drawn: the number of the generation that plays.
        learners: () int64, how many of its members have learnt by gradient.
    """

    changeable = ("network.obs_clip",)
    unscaled = "its losses are not scaled"
    is_deterministic = True
    step_size = "model.optimizer.critic_learning_rate"
    makes_generations = True
    policy: StackedActor
    variance: Tensor
    damping: Tensor
    drawn: Tensor
    learners: Tensor

    def __init__(
        self,
        num_agents: int = 11,
        network: CEMNetworkSettings = CEMNetworkSettings(),  # noqa: B008  (frozen)
        evolution: CEMSettings = CEMSettings(),  # noqa: B008
        loss: PQLLossSettings = TD3,
        optimizer: CEMOptimizerSettings = CEMOptimizerSettings(),  # noqa: B008
        replay: GenerationReplaySettings = GenerationReplaySettings(),  # noqa: B008
        generation: GenerationSettings = GenerationSettings(),  # noqa: B008
    ) -> None:
        super().__init__(DIAGNOSTICS)
        require_range("model.num_agents (the mean and at least two members)", num_agents, 3)
        evolution.require_members(num_agents - 1)
        self.num_agents, self.network_settings, self.evolution_settings = num_agents, network, evolution
        self.loss_settings, self.optimizer_settings = loss, optimizer
        self.replay_settings, self.generation_settings = replay, generation
        self._actor_losses: list[Tensor] = []
        self._told: dict[str, Tensor] = {}

    @property
    def model_settings(self) -> dict[str, object]:
        """Everything that says what the weights mean."""
        network = {f"network.{name}": value for name, value in asdict(self.network_settings).items()}
        return {"num_agents": self.num_agents, **network}

    @classmethod
    def build_policy(cls, identity: Identity) -> StackedActor:
        """All actors."""
        require_continuous(identity.task, identity.discrete)
        settings, agents = identity.settings("network", CEMNetworkSettings), int(identity.model["num_agents"])
        return StackedActor(agents, identity.obs_dim, identity.act_dim, settings, identity.groups)

    # Training -------------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """The actors, the critics and their target nets, and the distribution."""
        if not hasattr(self, "policy"):
            super().configure_model()
            self.policy.requires_grad_(False)  # copies of the members learn
            spec, settings = self.data.spec, self.evolution_settings
            self.critic = TwinCritic(spec.obs_dim, spec.act_dim, self.network_settings.of_critics, spec.groups)
            self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
            self.register_buffer("variance", torch.full_like(self.policy.flat()[MASTER], settings.variance_init))
            self.register_buffer("damping", torch.tensor(settings.damping_init, dtype=torch.float64))
            self.register_buffer("drawn", torch.zeros((), dtype=torch.long))
            self.register_buffer("learners", torch.zeros((), dtype=torch.long))

    def require_envs(self, num_envs: int, *, in_halves: bool) -> None:
        """The mean and all members have equally many, and act together."""
        population = Population(self.num_agents, num_envs)
        if in_halves:
            require_alternation(population, alternates=GenerationDataset.alternates)

    def experience(self, world: World) -> GenerationDataset:
        """Generations, into a replay buffer whose size in memory is printed."""
        spec = world.env.spec
        shape = ReplayShape(self.replay_settings.capacity_per_env, spec.num_envs, spec.obs_dim, spec.act_dim)
        rank_zero_info(f"Replay memory: {require_memory(Ring.nbytes(shape), world.device, CAPACITY, shape[0])}")
        if idle := idle_encoders(self.network_settings, spec.groups):
            rank_zero_info(idle)
        buffer = NStepBuffer(shape, world.device, self.loss_settings.n_step, self.loss_settings.gamma)
        return GenerationDataset(world, self.policy, self.generation_settings, self.replay_settings, buffer)

    def configure_optimizers(self) -> torch.optim.Adam:
        """That of the critics; those of the actors do not outlive their generation."""
        return torch.optim.Adam(self.critic.parameters(), lr=self.optimizer_settings.critic_learning_rate, fused=True)

    def on_train_start(self) -> None:
        """The first members are drawn; what was restored obeys the present settings."""
        self._critic_weights, self._target_weights = [*self.critic.parameters()], [*self.target_critic.parameters()]
        for group in self._adam().param_groups:
            group |= {"lr": self.optimizer_settings.critic_learning_rate, "fused": True}
        if not int(self.drawn):
            self._draw_members()

    def update(self, batch: Generation) -> None:
        """The members that were measured move the distribution; others are drawn, and some of them learn."""
        self._select(batch.fitness)
        self._draw_members()
        self.learners.fill_(self.evolution_settings.gradient_members if batch.warm else 0)
        if batch.warm and self.evolution_settings.gradient_members:
            self._teach_members(batch.env_steps, self._teach_critics(batch.env_steps))
        self.dataset.start_new_gene(torch.arange(self.num_agents))

    def _select(self, fitness: Tensor) -> None:
        flat = self.policy.flat()
        before = Distribution(flat[MASTER], self.variance, self.damping)
        after, parents = update(before, flat[MASTER + 1 :], fitness[MASTER + 1 :], self.evolution_settings)
        self._tell(fitness, parents + MASTER + 1)
        self.policy.put_flat(slice(MASTER, MASTER + 1), after.mean[None])
        self.variance.copy_(after.variance)
        self.damping.copy_(after.damping)

    def _draw_members(self) -> None:
        """Every rank draws the same, and a resumed run what the uninterrupted one does: by seed and number alone."""
        seed = derive_seed(self.data.seed, Stream.EVOLUTION, int(self.drawn))
        generator, mean = torch.Generator().manual_seed(seed), self.policy.flat()[MASTER]
        members = draw(mean, self.variance, self.num_agents - 1, self.evolution_settings.antithetic, generator)
        self.policy.put_flat(slice(MASTER + 1, None), members)
        self.drawn += 1

    def _teach_critics(self, env_steps: int) -> list[Tensor]:
        """The critics learn against one member after the other; returns the first one's weights (G, ...) after each.

        The member itself is the target actor, too: it does not change meanwhile.
        """
        settings, dataset, moments = self.loss_settings, self.dataset, self.policy.obs_moments
        stepper = Stepper(self.trainer, self._adam(), self.optimizer_settings.max_grad_norm)
        members = self.evolution_settings.gradient_members
        updates = round(self.optimizer_settings.critic_updates_per_env_step * env_steps) // members
        snapshots = []
        for member in range(MASTER + 1, MASTER + 1 + members):
            actor = self.policy.weights(slice(member, member + 1))
            for _ in range(updates):
                batch = dataset.draw()
                following = moments.normalize(batch.next_obs)
                with torch.no_grad():
                    actions = self.policy(following[None], actor)[0]
                    noise = torch.empty_like(actions).normal_(generator=dataset.generator)
                    values = self.target_critic(following, smooth(actions, noise, settings))
                    targets = critic_targets(values, batch.rewards, batch.discount, settings)
                values = self.critic(moments.normalize(batch.obs), batch.actions)
                loss = critic_loss(values, targets)
                norm = stepper.step_for(self._critic_weights, loss)
                self.minibatches.add(loss, torch.stack([loss.detach(), values.mean().detach().mean()]), norm)
                polyak_average(self._target_weights, self._critic_weights, settings.tau)
            snapshots.append(StackedCritic.weights_of(self.critic))
        return [torch.stack(weights) for weights in zip(*snapshots, strict=True)]

    def _teach_members(self, env_steps: int, critic_weights: list[Tensor]) -> None:
        """Members climb, all at once, what the first critic said when it had learnt against them."""
        spec, members = self.data.spec, self.evolution_settings.gradient_members
        critics = StackedCritic(members, spec.obs_dim, spec.act_dim, self.network_settings, spec.groups)
        learners = slice(MASTER + 1, MASTER + 1 + members)
        weights = {name: nn.Parameter(weight) for name, weight in self.policy.weights(learners).items()}
        parameters = [*weights.values()]
        adam = torch.optim.Adam(parameters, lr=self.optimizer_settings.actor_learning_rate, fused=True)
        stepper = Stepper(self.trainer, adam, math.inf)
        for _ in range(round(self.optimizer_settings.actor_updates_per_env_step * env_steps)):
            obs = self.policy.obs_moments.normalize(self.dataset.draw_for(members))
            losses = -critics.values(critic_weights, obs, self.policy(obs, weights)).mean(1)
            self._actor_losses.append(losses.detach().mean())
            # of a sum nobody's gradient depends on how many there are
            self.minibatches.grad_norms.append(stepper.step_for(parameters, losses.sum()))
        self.policy.put(learners, weights)

    def _adam(self) -> torch.optim.Adam:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Adam)
        return optimizer

    # The population -------------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> GenerationDataset:
        """The experience of the training that runs."""
        dataset = super().dataset
        assert isinstance(dataset, GenerationDataset)
        return dataset

    def _tell(self, fitness: Tensor, parents: Tensor) -> None:
        """What the generation that was measured was like."""
        first, learners, sigma = MASTER + 1, int(self.learners), self.variance.mean().sqrt()
        self._told = {
            "population/sigma": sigma,
            "population/fitness_mean": fitness[MASTER],
            "population/fitness_gradient": fitness[first : first + learners].mean(),  # NaN of none
            "population/fitness_sampled": fitness[first + learners :].mean(),
            "population/gradient_parents": (parents < first + learners).float().mean(),
        }
        self.metrics["charts/generation"] = int(self.drawn)
        self.generation = {
            "generation": int(self.drawn),
            "env_steps": self.env_steps,
            "children": [],
            "parents": [],
            "elites": parents.tolist(),
            "fitness": [round(value, 6) for value in fitness.tolist()],
            "gradient_members": learners,
            "sigma": float(sigma),
        }

    def scalars(self) -> dict[str, Tensor]:
        """The generation, the actors' loss, where they learnt, and how many steps are remembered."""
        losses, self._actor_losses = self._actor_losses, []
        actor = {"losses/actor_loss": torch.stack(losses).mean()} if losses else {}
        filled = torch.tensor(float(self.dataset.buffer.filled), device=self.policy.device)
        return {**actor, **self._told, "charts/replay_steps": filled}
