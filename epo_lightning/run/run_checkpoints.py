"""When checkpoints are written: the last and the best of a run."""

import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_info

from epo_lightning.algorithm.ties import alike, exceeds
from epo_lightning.experience.saved_state import require_readable
from epo_lightning.limits import require_range
from epo_lightning.modules.base import PopulationModule
from epo_lightning.run.checkpoint import read_checkpoint, save
from epo_lightning.run.folder import RunFolder, part_of, writing
from epo_lightning.run.notices import Reasons

MONITOR = "charts/episodic_return"
COVERAGE = "charts/episodic_coverage"
"""Share of the master's environments of which `MONITOR` is the mean; only of all of them it is a score."""

_HEAVY = 2**28
"""Bytes of kept samples from which a checkpoint is not written for every new best."""


class RunCheckpoints(Checkpoint):
    """Keeps `last.ckpt` and `best.ckpt` in the run folder, at ends of iterations only.

    `best` is the checkpoint with the highest `charts/episodic_return`, the master's mean return while it explores. An
    iteration has a score once every environment of the master has finished an episode, so that quick endings do not
    weigh more; a new best is saved in its own iteration, whatever the clock says. Where the task's curriculum has moved
    on since the best, the next score is the new best: returns at two difficulties do not compare.

    A checkpoint that holds a large replay buffer takes long to write: there a new best has to wait until a save is due,
    and `best` is the best of the iterations that were saved.

    `last` is written first. It says which iteration is the best; when that is its own and the process ends before
    `best` is there, the next one makes it.

    Args:
        every_n_iterations: Save after every so many iterations; null saves as often as `max_share` allows.
        max_share: Share of the training time that saving may take when `every_n_iterations` is null.
    """

    def __init__(self, every_n_iterations: int | None = None, max_share: float = 0.02) -> None:
        require_range("checkpoint.max_share", max_share, 0, 1)
        if every_n_iterations is not None:
            require_range("checkpoint.every_n_iterations", every_n_iterations, 1)
        self.every_n_iterations = every_n_iterations
        self.max_share = max_share
        self.best_score = -math.inf
        self.best_iteration: int | None = None
        self.best_difficulty: dict[str, float] = {}
        self.saved_iteration: int | None = None
        self._reasons = Reasons()
        self._started = 0.0
        self._seconds = self._longest = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Bring `best` to what the restored state says, also when there is nothing left to train."""
        found = trainer.is_global_zero and self._mend_best(trainer)
        if not trainer.strategy.broadcast(found):
            if self.best_iteration is not None:
                rank_zero_info(f"best.ckpt, of iteration {self.best_iteration}, is gone: the best one begins anew")
            self.best_score, self.best_iteration = -math.inf, None

    def _mend_best(self, trainer: L.Trainer) -> bool:
        """Whether the run folder now holds the best checkpoint; in another folder it is that of the resumed run."""
        if self.best_iteration is None or trainer.ckpt_path is None:
            return False
        resumed = Path(trainer.ckpt_path)
        best = RunFolder(Path(trainer.default_root_dir)).best
        found = next((file for file in (best, resumed, resumed.with_name(best.name)) if self._is_best(file)), None)
        if found is not None and found != best:
            with writing(best):
                best.parent.mkdir(exist_ok=True)
                _link(found, best)
        return found is not None

    def _is_best(self, file: Path) -> bool:
        """Whether `file` is the checkpoint of which the state speaks."""
        try:
            checkpoint = read_checkpoint(file)
        except ValueError:
            return False
        state = checkpoint.get("callbacks", {}).get(self.state_key, {})
        iterations = checkpoint["epoch"] + 1, state.get("best_iteration")
        return iterations == (self.best_iteration,) * 2 and state["best_score"] == self.best_score

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The clock of the saves starts; whatever cannot be saved is named before the first iteration."""
        self._started = time.monotonic()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            require_readable(
                callback.state_dict(), f"state_dict() of {type(callback).__name__}", "see trainer.callbacks"
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Runs after every other callback and the module: the iteration is complete."""
        iteration = trainer.current_epoch + 1
        metrics = trainer.callback_metrics
        score = float(metrics[MONITOR]) if metrics.get(COVERAGE, 0.0) == 1.0 else -math.inf
        is_final = trainer.should_stop or iteration == trainer.max_epochs
        is_heavy, difficulty = False, {}
        if isinstance(pl_module, PopulationModule):
            is_heavy, difficulty = pl_module.dataset.kept_nbytes > _HEAVY, pl_module.difficulty()
        beaten = self.best_score if alike(difficulty, self.best_difficulty) else -math.inf
        is_due = is_final or self._is_due(iteration)
        is_better = exceeds(score, beaten)
        if is_better and is_heavy and not is_due:
            size = f"checkpoints keep samples of more than {_HEAVY // 2**20} MiB"
            self._reasons.tell("heavy", f"best.ckpt waits for the next save, since {size}: return {score:.4g}")
        decided = is_better and (is_due or not is_heavy), is_due, difficulty
        is_best, is_due, difficulty = trainer.strategy.broadcast(decided)
        if is_best:
            self._reasons.forget()
            self.best_score, self.best_iteration, self.best_difficulty = score, iteration, difficulty
        if is_best or is_due:
            self._save(trainer, iteration, is_best)

    def _is_due(self, iteration: int) -> bool:
        if self.every_n_iterations is not None:
            return iteration % self.every_n_iterations == 0
        return self._seconds + self._longest <= self.max_share * (time.monotonic() - self._started)

    def _save(self, trainer: L.Trainer, iteration: int, is_best: bool) -> None:
        start = time.monotonic()
        folder = RunFolder(Path(trainer.default_root_dir))
        save(trainer, folder.last)
        if is_best and trainer.is_global_zero:
            with writing(folder.best):
                _link(folder.last, folder.best)
        self.saved_iteration = iteration
        took = time.monotonic() - start
        self._seconds, self._longest = self._seconds + took, max(self._longest, took)

    def state_dict(self) -> dict[str, Any]:
        """The score to beat, whose it is, and at which difficulty."""
        return {
            "best_score": self.best_score,
            "best_iteration": self.best_iteration,
            "best_difficulty": self.best_difficulty,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the score to beat of the run that is resumed."""
        self.best_score, self.best_iteration = state_dict["best_score"], state_dict.get("best_iteration")
        self.best_difficulty = dict(state_dict.get("best_difficulty", {}))


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name in one step; a copy where the file system has no links."""
    temporary = part_of(target)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
