"""What callbacks and commands know of an algorithm that trains a population, whichever it is.

Shape legend: K agents, M replaced agents.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import lightning as L
from torch import Tensor

from epo_lightning.algorithm.genome import Genome
from epo_lightning.algorithm.population import MASTER
from epo_lightning.experience.evaluation import Summary
from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.lean import LeanLightningModule
from epo_lightning.modules.sums import MinibatchSums


class PopulationModule(LeanLightningModule, ABC):
    """A LightningModule that trains K agents in the environments of a `RolloutDataModule`.

    Args:
        diagnostics: Names of what the loss tells of itself.

    Attributes:
        num_agents: K.
        network_settings: Of the network, which is built when the environments have told their sizes.
        policy: The network; there is none before `configure_model`.
        champion: The agent that is evaluated, and whose results are the run's.
        sums: Of the present iteration's losses and gradients.
        metrics: What is logged at the end of the iteration; what a callback puts in stays until it is replaced.
        episodes: Totals of the episodes that an evaluation has played, one tensor per seed (see `Episodes`).
        evaluation: The same, summed up.
    """

    num_agents: int
    network_settings: NetworkSettings
    policy: Policy
    champion = MASTER

    def __init__(self, diagnostics: Sequence[str]) -> None:
        super().__init__()
        self.sums = MinibatchSums(diagnostics)
        self.metrics: dict[str, float] = {}
        self.episodes: list[Tensor] = []
        self.evaluation: dict[str, Summary] = {}

    @property
    def data(self) -> RolloutDataModule:
        """The datamodule that feeds this module."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, RolloutDataModule)
        return datamodule

    @property
    def dataset(self) -> RolloutDataset:
        """The rollouts of the training that runs, with the fitness of every agent."""
        dataset = self.data.dataset
        assert dataset is not None, "no training has begun"
        return dataset

    @property
    def env_steps(self) -> int:
        """Env steps made so far, over all environments and ranks."""
        return self.dataset.env_steps

    def difficulty(self) -> dict[str, float]:
        """What the task's curriculum has come to on this rank."""
        assert self.data.env is not None
        return self.data.env.curriculum()

    @property
    @abstractmethod
    def genome(self) -> Genome:
        """What distinguishes the agents; a training runs."""

    def replace_agents(self, agents: Tensor, genome: Mapping[str, Tensor]) -> None:
        """Other individuals take the rows of `agents`: the genetic algorithm's only way in.

        What the optimizer knew of them is forgotten, and their running episodes stop counting.

        Args:
            agents: (M,) ids.
            genome: (M, ...) of each name of `genome`.
        """
        self.genome.write(agents, genome)
        self.genome.forget(agents)
        self.dataset.start_new_gene(agents)


class PopulationCallback(L.Callback):
    """Base class of callbacks that work on a population: `self.module` is the module, typed, from `setup` on.

    A subclass with a `setup` of its own calls this one first.
    """

    module: PopulationModule

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Keep the module.

        Raises:
            Mistake: When it trains no population.
        """
        super().setup(trainer, pl_module, stage)
        if not isinstance(pl_module, PopulationModule):
            raise Mistake(
                f"trainer.callbacks {type(self).__name__} works on a population (PopulationModule), not on"
                f" {type(pl_module).__name__}"
            )
        self.module = pl_module
