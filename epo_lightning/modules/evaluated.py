"""A module whose agents can be evaluated: `validate` and `test`, whichever algorithm it is.

Shape legend: A agents side by side, n environments of each, E episodes of each environment, M measured quantities.
"""

from abc import abstractmethod
from collections.abc import Sequence

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor

from epo_lightning.algorithm.population import MASTER
from epo_lightning.experience.evaluation import Episodes, EvaluationDataset, Round, Summary, summarize
from epo_lightning.experience.standings import Standings, stand
from epo_lightning.learner.policy import Policy
from epo_lightning.modules.data import RolloutDataModule


class Evaluated(L.LightningModule):
    """Plays complete episodes of the champion and, where `roster` names some, of several agents side by side.

    Attributes:
        policy: The network; there is none before `configure_model`.
        champion: The agent that is evaluated, and whose results are the run's.
        episodes: Totals of the champion's episodes, one tensor per seed (see `Episodes`).
        evaluation: The same, summed up.
        roster: The agents that play side by side besides; none unless somebody names some.
        draws_too: They play once more, with drawn actions.
        standings: What they did, by the kind of actions: `mean`, `drawn`.
    """

    policy: Policy
    champion = MASTER

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[Tensor] = []
        self.evaluation: dict[str, Summary] = {}
        self.roster: tuple[int, ...] = ()
        self.draws_too = False
        self.standings: dict[str, Standings] = {}
        self._extra: dict[Round, list[Tensor]] = {}

    @property
    def data(self) -> RolloutDataModule:
        """The datamodule that owns the environments."""
        datamodule = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, RolloutDataModule)
        return datamodule

    @abstractmethod
    def reached(self) -> dict[str, float]:
        """What the task's curriculum has come to in the training; nothing where there was no rollout."""

    def val_dataloader(self) -> EvaluationDataset:
        """One batch: complete episodes of the champion in environments of the run's seed."""
        return self._evaluation([self.data.seed])

    def test_dataloader(self) -> EvaluationDataset:
        """One batch per evaluation seed: the same episodes for every run."""
        return self._evaluation(self.data.eval_seeds)

    def _evaluation(self, seeds: Sequence[int]) -> EvaluationDataset:
        reached = self.reached()
        rounds = [Round((self.champion,), *self.data.evaluation_share(1))]
        if self.roster:
            share = self.data.evaluation_share(len(self.roster))
            kinds = [False, True] if self.draws_too else [False]
            rounds += [Round(self.roster, *share, is_drawn, is_extra=True) for is_drawn in kinds]
        return EvaluationDataset(
            lambda seed, envs: self.data.evaluation_env(seed, reached, envs),
            seeds,
            self.policy,
            rounds,
            self.data.noise_seed,
        )

    def on_validation_start(self) -> None:
        """Forget the episodes of the evaluation before."""
        self.episodes, self._extra = [], {}

    def validation_step(self, batch: Episodes, batch_idx: int) -> None:
        """One batch is this rank's episodes of one round and seed: gather those of all ranks."""
        parts = [batch.totals]
        if self.trainer.world_size > 1:
            parts = [torch.empty_like(batch.totals) for _ in range(self.trainer.world_size)]
            dist.all_gather(parts, batch.totals)
        if batch.round.is_extra:
            joined = torch.cat([batch.round.by_agent(part) for part in parts], dim=-1)
            self._extra.setdefault(batch.round, []).append(joined)
        else:
            self.episodes.append(torch.cat(parts, dim=1))

    def on_validation_epoch_end(self) -> None:
        """Sum up the episodes of all seeds."""
        self.evaluation = summarize(torch.stack(self.episodes))
        self.standings = {
            "drawn" if each.is_drawn else "mean": stand(each.agents, self.champion, torch.stack(seeds))
            for each, seeds in self._extra.items()
        }

    on_test_start, test_step, on_test_epoch_end = on_validation_start, validation_step, on_validation_epoch_end
