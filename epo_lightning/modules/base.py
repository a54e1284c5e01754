"""What callbacks and commands know of an algorithm that trains a population, whichever it is.

Shape legend: K agents, M replaced agents.

An algorithm derives from `PopulationModule`: it builds its network, makes its stream of experience from the
environments, and learns from each batch of it. Evaluation, the log and the checkpoints are the same for all.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from epo_lightning.algorithm.genome import Genome
from epo_lightning.envs.base import EnvSpec
from epo_lightning.experience.base import Experience
from epo_lightning.experience.dealing import Deal
from epo_lightning.experience.world import World
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.modules.algorithm_table import algorithm_name
from epo_lightning.modules.env_step_axis import put_on_env_steps
from epo_lightning.modules.evaluated import Evaluated
from epo_lightning.modules.identity import Identity, require_blind, require_same_identity
from epo_lightning.modules.iteration_log import IterationLog
from epo_lightning.modules.minibatches import MinibatchLog
from epo_lightning.modules.supported import require_supported, tell_skipped_hooks


class PopulationModule(Evaluated, ABC):
    """A LightningModule that trains K agents in the environments of a `RolloutDataModule`.

    One epoch is one iteration. The module optimises by itself (`automatic_optimization` is False): a batch of its
    experience is as many minibatches and optimizer steps as the algorithm makes of it.

    Args:
        diagnostics: Names of what the loss tells of itself.

    Attributes:
        changeable: Names of `model_settings` that may change when a run goes on.
        step_size: The key that bounds what an optimizer step changes, for advice.
        num_agents: K.
        coupled: Whether followers are coupled to the master (CPO).
        unscaled: Why `trainer.precision` 16-mixed, which scales losses, does not go with it; empty where it does.
        is_deterministic: Whether its policies have no noise of their own, so that there is nothing to draw.
        makes_generations: Whether the algorithm replaces its agents by itself, so that no callback may.
        generation: What it says of the last one, as `lineage.jsonl` keeps it; None before there is one.
        minibatches: Of the present iteration.
        metrics: What is logged at the end of the iteration; what a callback puts in stays until it is replaced.
    """

    changeable: ClassVar[Collection[str]] = ()
    step_size: ClassVar[str] = "model.optimizer.learning_rate"
    num_agents: int
    coupled = False
    makes_generations: ClassVar[bool] = False
    unscaled: ClassVar[str] = ""
    is_deterministic: ClassVar[bool] = False
    generation: dict[str, Any] | None = None

    def __init__(self, diagnostics: Sequence[str]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.minibatches = MinibatchLog(diagnostics)
        self.metrics: dict[str, float] = {}
        self._dataset: Experience[Any] | None = None
        self._restored: dict[str, Any] = {}
        self._dealt: list[dict[str, Any]] = []

    # What an algorithm is -------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def build_policy(cls, identity: Identity) -> Policy:
        """The network that acts, of the sizes and settings that `identity` tells."""

    @abstractmethod
    def experience(self, world: World) -> Experience[Any]:
        """What this algorithm makes of the environments: the stream of its batches."""

    @abstractmethod
    def update(self, batch: Any) -> None:
        """Learn from one batch of the experience."""

    def require_envs(self, num_envs: int, *, in_halves: bool) -> None:
        """Refuse `data.num_envs` that this algorithm cannot deal out, before the environments are built.

        Args:
            num_envs: Of a rank.
            in_halves: They are to be two halves (`data.double_buffer`).

        Raises:
            Mistake: With a number, or a setting, that would do.
        """

    @property
    def genome(self) -> Genome:
        """What distinguishes the agents, while a training runs; nothing where there is one agent."""
        return Genome({})

    def scalars(self) -> dict[str, Tensor]:
        """What the algorithm itself adds to the log of an iteration: () tensors by name."""
        return {}

    @property
    @abstractmethod
    def model_settings(self) -> Mapping[str, object]:
        """The settings that say what the weights of the network mean, by their key behind `model.`."""

    def identity(self, spec: EnvSpec) -> Identity:
        """What this module's network is built for in environments as `spec` tells them."""
        return Identity.of(algorithm_name(type(self)), spec, self.model_settings)

    # The population -------------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> Experience[Any]:
        """The experience of the training that runs, with the fitness of every agent."""
        assert self._dataset is not None, "no training has begun"
        return self._dataset

    @property
    def env_steps(self) -> int:
        """Env steps made so far, over all environments and ranks."""
        return int(self._restored.get("env_steps", 0)) if self._dataset is None else self._dataset.env_steps

    def difficulty(self) -> dict[str, float]:
        """What the task's curriculum has come to on this rank."""
        return self.dataset.env.curriculum()

    def reached(self) -> dict[str, float]:
        """The same, also of a checkpoint that is only evaluated; nothing where there was no rollout."""
        return dict(self._restored.get("curriculum", {})) if self._dataset is None else self.difficulty()

    def replace_agents(self, agents: Tensor, genome: Mapping[str, Tensor]) -> None:
        """Other individuals take the rows of `agents`: the genetic algorithm's only way in.

        What the optimizer knew of them is forgotten, and so are their episodes, finished and running: what is logged of
        the agents, and scored, is of whole episodes of whoever they are.

        Args:
            agents: (M,) ids.
            genome: (M, ...) of each name of `genome`.
        """
        self.genome.write(agents, genome)
        self.genome.forget(agents)
        self.dataset.start_new_gene(agents)
        self.dataset.forget_episodes(agents)

    # Training -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Make the streams that the datamodule hands to Lightning; refuse a trainer that cannot train this module."""
        self.data.source = self
        put_on_env_steps(self.trainer.loggers, self)
        require_supported(self.trainer, trains=stage == "fit", unscaled=self.unscaled)
        if stage == "fit":
            tell_skipped_hooks(self.trainer)

    def configure_model(self) -> None:
        """Build the network once the sizes of the environments are known."""
        if not hasattr(self, "policy"):
            identity = self.identity(self.data.spec)
            self.policy = self.build_policy(identity)
            require_blind(self.policy, identity)

    def train_dataloader(self) -> Experience[Any]:
        """The algorithm's own stream: Lightning takes one pass of it per epoch."""
        world = self.data.world()
        self._dataset = self.experience(world)
        if self._dealt:
            deal = Deal(self._dealt, world.rank, world.world_size, self._dataset.population)
            rank_zero_info(deal.told())
            self._restored, self._dealt = deal.state(), []
        if self._restored:
            self._dataset.restore(self._restored)
            self._restored = {}
        if line := self._dataset.env.settle():
            rank_zero_info(line)
        return self._dataset

    def on_train_epoch_start(self) -> None:
        """A new iteration."""
        self._log = IterationLog(self.dataset.clock)
        self.minibatches.reset()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Learn from one batch."""
        with self._log.learning():
            self.update(batch)

    def on_train_epoch_end(self) -> None:
        """Tell the iteration, once, to every logger, with what `self.log` got until now; the x axis is env steps."""
        self._log.finish(self.dataset, self.minibatches, self.scalars(), self.champion, self.metrics)
        self.metrics["charts/iteration"] = self.current_epoch + 1
        if self.dataset.notice:
            rank_zero_info(self.dataset.notice)
            self.dataset.notice = ""
        known = {name: value for name, value in self.metrics.items() if not math.isnan(value)}
        values = torch.tensor(list(known.values()), dtype=torch.float64).unbind()
        self.trainer.callback_metrics.update(zip(known, values, strict=True))
        everything = self._logged_by_others() | known
        for logger in self.trainer.loggers:
            logger.log_metrics(everything, step=self.env_steps)
            logger.save()

    def log(self, *args: Any, **settings: Any) -> None:
        """As Lightning's, for modules and callbacks; every batch weighs the same, as Lightning cannot tell its size."""
        if settings.get("batch_size") is None:
            settings["batch_size"] = 1
        super().log(*args, **settings)

    def _logged_by_others(self) -> dict[str, float]:
        """What `self.log` of modules and callbacks has gathered in this iteration; a collective call.

        Lightning logs it after the checkpoint is written; here it stands in the iteration's row before.
        """
        logged = self.trainer._logger_connector.metrics["log"]
        values = {name: float(value) for name, value in logged.items() if name != "step"}  # which Lightning leaves out
        return {"epoch": self.current_epoch, **values} if values else {}

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the network was built for, and the experience of every rank: a collective call."""
        checkpoint[contents.IDENTITY] = self.identity(self.data.spec).as_dict()
        checkpoint[contents.LAYOUT] = contents.PRESENT_LAYOUT
        if self._dataset is not None:
            ranks = contents.gather(self._dataset.saved())
            if ranks is not None:
                checkpoint[contents.RANKS] = ranks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another algorithm, population, network or task by name.

        To train on, one of another layout, number of environments, or kind of device, too. What another number of ranks
        has saved is dealt to those of now.
        """
        trainer = self.trainer
        require_same_identity(contents.identity_of(checkpoint), self.identity(self.data.spec), self.changeable)
        if trainer.training:
            device = trainer.strategy.root_device
            contents.require_resumable(checkpoint, trainer.world_size, self.data.num_envs, device)
        elif not contents.has_present_layout(checkpoint):
            checkpoint["callbacks"] = {}  # Lightning restores them for an evaluation, too, which needs none
        own, saved = self.state_dict(), checkpoint["state_dict"]
        unlike = [name for name in own.keys() | saved.keys() if name not in own or name not in saved]
        if unlike:
            raise Mistake(f"--ckpt_path does not match this run: its weights lack, or have too much, {min(unlike)!a}")
        ranks = contents.ranks_of(checkpoint)
        self._restored = ranks[trainer.global_rank % len(ranks)] if ranks else {}
        self._dealt = ranks if trainer.training and len(ranks) != trainer.world_size else []


class PopulationCallback(L.Callback):
    """Base class of callbacks that work on a population: `self.module` is the module, typed, from `setup` on.

    A subclass with a `setup` of its own calls this one first.

    Attributes:
        precedes: Kinds of callbacks that must stand behind it in the list, where there are any.
    """

    precedes: ClassVar[tuple[type[L.Callback], ...]] = ()
    module: PopulationModule

    def require_population(self, module: PopulationModule) -> None:
        """Refuse to train an algorithm, or a population, on which this callback cannot work.

        The command line asks before anything is built, so nothing is known of the environments here.

        Raises:
            Mistake: With what would do.
        """

    def require_place(self, callbacks: Sequence[L.Callback]) -> None:
        """Refuse a list of `callbacks` with this one, in which one of those that it `precedes` stands before it.

        Raises:
            Mistake: With the right order.
        """
        before = callbacks[: callbacks.index(self)]
        wrong = next((each for each in before if isinstance(each, self.precedes)), None)
        if wrong is not None:
            raise Mistake(f"trainer.callbacks: {type(self).__name__} must stand before {type(wrong).__name__}")

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Keep the module.

        Raises:
            Mistake: When it trains no population, or one on which this callback cannot work.
        """
        super().setup(trainer, pl_module, stage)
        if not isinstance(pl_module, PopulationModule):
            raise Mistake(
                f"trainer.callbacks {type(self).__name__} works on a population (PopulationModule), not on"
                f" {type(pl_module).__name__}"
            )
        if stage == "fit":
            self.require_population(pl_module)
            self.require_place(trainer.callbacks)  # type: ignore[attr-defined]
        self.module = pl_module
