"""PPO, SAPG, CPO and EPO: a population on one shared network, by the hybrid loss on its own rollouts.

Shape legend: K agents.
"""

from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.coupling import coupled_followers, coupling_weight
from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.algorithm.genome import Genome
from epo_lightning.algorithm.losses import (
    COUPLING_DIAGNOSTICS,
    DIAGNOSTICS,
    HybridLoss,
    LossSettings,
    entropy_coefficients,
    hybrid_loss,
)
from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.halves import Halves
from epo_lightning.experience.base import require_alternation
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.diversity import Diversity
from epo_lightning.experience.rollout import RolloutDataset, rollout_shape
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.streams import Stream, derive_seed
from epo_lightning.experience.world import World
from epo_lightning.learner.compiled import Compilation
from epo_lightning.learner.cuda_graph import Recorded, why_without_graphs
from epo_lightning.learner.initial import GeneInitialSettings, begin_with
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.observations import pixels
from epo_lightning.learner.optimizer import (
    GeneOptimizerSettings,
    adapt_learning_rate,
    build_adam,
    make_recordable,
    restart_adam,
)
from epo_lightning.learner.recorded_policy import RecordedPolicy
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules import contents
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.compilation import LearnerCompilation
from epo_lightning.modules.identity import Identity
from epo_lightning.modules.idle_settings import idle_settings
from epo_lightning.modules.rollout_cost import tell_cost
from epo_lightning.modules.stepper import Stepper


class EPOModule(PopulationModule):
    """Evolutionary Policy Optimization without its evolution, which callbacks add.

    With one agent this is PPO, with several SAPG, and CPO where `model.loss.coupling_coefficient` couples them to the
    master; with `epo_lightning.callbacks.GeneticEvolution` it is EPO.

    Args:
        num_agents: K, agents in the population; agent 0 is the master.
        network: The shared network.
        loss: The hybrid loss.
        optimizer: Adam and its adaptive learning rate.
        rollout: How experience is collected and used.
        diversity: The reward for being told apart.
        initial: What a new network begins with.
        cuda_graphs: Record the update, and the network's part of an env step, as CUDA graphs: less time for the host,
            the same numbers. By default wherever they can be had, which is on one GPU; `true` also says why not.
        compile: Whether torch compiles the update and the policy's step: `always`, `never`, or `auto`, on a CPU where
            the run is long enough to gain more than compiling takes.
    """

    changeable = tuple(f"network.{name}" for name in ("log_std_init", "log_std_min", "log_std_max", "obs_clip"))
    step_size = "model.optimizer.learning_rate_max"
    entropy_coefficient: Tensor
    policy: LatentActorCritic

    def __init__(
        self,
        num_agents: int = 1,
        network: NetworkSettings = NetworkSettings(),  # noqa: B008  (frozen)
        loss: LossSettings = LossSettings(),  # noqa: B008
        optimizer: GeneOptimizerSettings = GeneOptimizerSettings(),  # noqa: B008
        rollout: RolloutSettings = RolloutSettings(),  # noqa: B008
        diversity: DiversitySettings = DiversitySettings(),  # noqa: B008
        initial: GeneInitialSettings = GeneInitialSettings(),  # noqa: B008
        cuda_graphs: bool | None = None,
        compile: Compilation = "auto",
    ) -> None:
        super().__init__(COUPLING_DIAGNOSTICS if loss.coupling_coefficient else DIAGNOSTICS)
        require_range("model.num_agents", num_agents, 1)
        if loss.coupling_coefficient and num_agents == 1:
            raise Mistake(
                f"model.loss.coupling_coefficient {loss.coupling_coefficient:g} couples followers to the master, and"
                " model.num_agents 1 has none: use 2 agents or more, or 0"
            )
        if diversity.coefficient and num_agents == 1:
            raise Mistake(
                f"model.diversity.coefficient {diversity.coefficient:g} rewards followers for being told apart, and"
                " model.num_agents 1 has none: use 2 agents or more, or 0"
            )
        self.num_agents = num_agents
        self.network_settings, self.loss_settings = network, loss
        self.optimizer_settings, self.rollout_settings = optimizer, rollout
        self.diversity_settings, self.initial_settings = diversity, initial
        coefficients = entropy_coefficients(num_agents, loss.entropy_scale, loss.entropy_floor)
        self.register_buffer("entropy_coefficient", coefficients, persistent=False)
        self.coupled = loss.coupling_coefficient > 0
        self._coupled_followers = coupled_followers(num_agents, loss.coupling_coefficient, rollout.coupling_followers)
        self._coupling = 0.0
        self.cuda_graphs = cuda_graphs
        self._recorded: Recorded | None = None
        self.compilation = LearnerCompilation(compile)

    @property
    def model_settings(self) -> dict[str, object]:
        """Everything that says what the weights mean."""
        network = {f"network.{name}": value for name, value in asdict(self.network_settings).items()}
        return {"num_agents": self.num_agents, **network}

    @classmethod
    def build_policy(cls, identity: Identity) -> LatentActorCritic:
        """The shared network."""
        settings = identity.settings("network", NetworkSettings)
        agents = identity.model["num_agents"]
        return LatentActorCritic(
            identity.obs_dim, identity.act_dim, agents, settings, identity.discrete, identity.groups
        )

    def configure_model(self) -> None:
        """Also what a new network begins with."""
        if not hasattr(self, "policy"):
            super().configure_model()
            begin_with(self.policy, self.initial_settings)

    def _shape(self, spec: EnvSpec) -> RolloutShape:
        settings = self.rollout_settings
        population = Population(self.num_agents, spec.num_envs, settings.master_share)
        return rollout_shape(spec, self.network_settings.state_shape, population, settings, self._coupled_followers)

    def require_envs(self, num_envs: int, *, in_halves: bool) -> None:
        """By agents, shares, halves and minibatches."""
        shape = self._shape(EnvSpec("", num_envs, obs_dim=1, act_dim=1))  # whatever they observe
        if in_halves:
            require_alternation(shape.population, alternates=RolloutDataset.alternates)
        self.rollout_settings.minibatches(shape.units, shape.steps_per_unit)

    def experience(self, world: World) -> RolloutDataset:
        """Rollouts; prints what memory they take, and the time where a CPU will need long for them."""
        settings, shape = self.rollout_settings, self._shape(world.env.spec)
        population = shape.population
        self._coupling = coupling_weight(population, shape.off_policy_columns, self.loss_settings.coupling_coefficient)
        passes = settings.num_epochs * settings.passes
        tell_cost(world, self.policy, shape, passes, "add the overlay --config laptop")
        images = bool(pixels(world.env.spec.groups))
        groups = self.network_settings, settings, self.loss_settings, self.diversity_settings, self.initial_settings
        steps = self.optimizer_settings
        if idle := idle_settings(self.num_agents, *groups, steps, discrete=world.env.spec.discrete, images=images):
            rank_zero_info(idle)
        diversity = self._diversity(world)
        dataset = RolloutDataset(world, self.policy, population, settings, self._coupled_followers, diversity)
        if world.device.type == "cuda":
            rank_zero_info(f"Memory: {dataset.room}")
        return dataset

    def _records(self) -> bool:
        """Whether CUDA graphs are wanted and can be had; says why not, where they were asked for."""
        if self.cuda_graphs is False:
            return False
        compiled = self.compilation.loss is not None
        reason = why_without_graphs(self.device, self.trainer.world_size, self.trainer.precision, compiled)
        if reason and self.cuda_graphs:
            rank_zero_info(f"Without effect: model.cuda_graphs true ({reason})")
        return not reason

    def _diversity(self, world: World) -> Diversity | None:
        """The classifier of the agents, where followers are rewarded for being told apart."""
        settings = self.diversity_settings
        if not settings.coefficient:
            return None
        seed = derive_seed(world.seed, Stream.DIVERSITY)
        diversity = Diversity(world.env.spec, self.num_agents, settings, world.device, seed)
        size = sum(parameter.numel() for parameter in diversity.parameters)
        rank_zero_info(
            f"Diversity: followers learn from {settings.coefficient:g} log q(k | s, a) on top of their reward"
            f" (model.diversity); q has {size:,} parameters"
        )
        return diversity

    def configure_optimizers(self) -> torch.optim.Adam:
        """One Adam for everything; fused where gradients can still be clipped."""
        fused = self.trainer.precision != "16-mixed"
        adam = build_adam(self.policy.parameters(), self.optimizer_settings, fused=fused)
        if self.cuda_graphs is not False and self.device.type == "cuda":
            make_recordable(adam)
        return adam

    def on_train_start(self) -> None:
        """What was restored obeys the present settings."""
        restart_adam(self._adam(), self.optimizer_settings)
        self.policy.clamp_log_std()
        self.compilation.begin(self.trainer, self.dataset, self._loss, self.network_settings)
        self._recorded = None
        if self._records():
            self.dataset.ask = RecordedPolicy(self.dataset.ask)
            stepper = self._stepper()
            self._recorded = Recorded(partial(self._descend, stepper), "the update")
            if self.cuda_graphs and isinstance(self.dataset.env, Halves):
                rank_zero_info("Without effect on a rollout: model.cuda_graphs true (data.double_buffer is true)")

    # The update -----------------------------------------------------------------------------------------------------

    def update(self, batch: RolloutBuffer) -> None:
        """`num_epochs` passes over one rollout in `num_minibatches` optimizer steps each."""
        stepper = self._stepper()
        for _ in range(self.rollout_settings.num_epochs):
            for minibatch, image in self.dataset.one_pass_with_images():
                self._learn(minibatch, image, stepper)
            self._adapt_learning_rate()

    def _stepper(self) -> Stepper:
        """Whose steps are those of the settings; of one agent, everything is the network's."""
        settings = self.optimizer_settings
        own = [self.policy.genes] if self.num_agents > 1 else []
        return Stepper(self.trainer, self._adam(), settings.max_grad_norm, own, settings.gene_rate if own else 1.0)

    def _learn(self, batch: RolloutBatch, image: RolloutBatch | None, stepper: Stepper) -> None:
        """One optimizer step on the hybrid loss of one minibatch, and of its image, which diagnostics leave out."""
        step = self._recorded or partial(self._descend, stepper)
        self.minibatches.add(*step(*batch, *(image or ())))
        stepper.count()

    def _descend(self, stepper: Stepper, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, diagnostics and gradient's norm of a step; `tensors` are those of a minibatch, and of its image."""
        batch, image = tensors[: len(RolloutBatch._fields)], tensors[len(RolloutBatch._fields) :]
        compute = self.compilation.loss or self._loss
        loss = compute(RolloutBatch(*batch))
        total = 0.5 * (loss.total + compute(RolloutBatch(*image)).total) if image else loss.total
        norm = stepper.descend(total)
        self.policy.clamp_log_std()
        return total.detach(), loss.diagnostics, norm

    def _loss(self, batch: RolloutBatch) -> HybridLoss:
        output = self.policy(batch.obs, self.policy.express(batch.agent_ids), batch.states, batch.resets)
        coefficient = self.entropy_coefficient.index_select(0, batch.agent_ids)
        return hybrid_loss(output.actions, output.value, batch, self.loss_settings, coefficient, self._coupling)

    def _adapt_learning_rate(self) -> None:
        """By the mean KL of the last pass, over all ranks."""
        kl = self.minibatches.last("approx_kl", self.dataset.num_minibatches)
        if self.trainer.world_size > 1:
            dist.all_reduce(kl)
            kl /= self.trainer.world_size
        adapt_learning_rate(self._adam().param_groups[0]["lr"], kl, self.optimizer_settings)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also whether the code was compiled: a run that goes on rounds as it did."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[contents.COMPILED] = self.compilation.compiled

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also that."""
        super().on_load_checkpoint(checkpoint)
        self.compilation.before = bool(checkpoint.get(contents.COMPILED, False))

    def _adam(self) -> torch.optim.Adam:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Adam)
        return optimizer

    # The population -------------------------------------------------------------------------------------------------

    @property
    def genome(self) -> Genome:
        """The latent genes, and the log-stds."""
        policy = self.policy
        return Genome({"genes": policy.genes, "log_std": policy.log_std}, self._adam(), averaged=["log_std"])

    @property
    def dataset(self) -> RolloutDataset:
        """The rollouts of the training that runs."""
        dataset = super().dataset
        assert isinstance(dataset, RolloutDataset)
        return dataset

    def scalars(self) -> dict[str, Tensor]:
        """The learning rate, and how wide the population is spread."""
        genes = self.policy.genes
        return {
            "charts/learning_rate": self._adam().param_groups[0]["lr"],
            "population/log_std": self.policy.log_std.mean(),
            "population/gene_spread": genes.std(0).mean() if self.num_agents > 1 else genes.new_zeros(()),
        }
