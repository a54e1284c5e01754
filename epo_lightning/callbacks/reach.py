"""Whether a callback's turn comes before the run is over."""

import lightning as L
from lightning.pytorch.utilities import rank_zero_info

from epo_lightning.modules.base import PopulationModule


def tell_if_out_of_reach(trainer: L.Trainer, module: PopulationModule, key: str, env_steps: int) -> None:
    """Print one line where a run of so many iterations ends before `env_steps`.

    Args:
        trainer: Of the run, at its start; one without an end is none that ends before.
        module: What it trains.
        key: What has no effect then.
        env_steps: When it would have some for the first time.
    """
    last = trainer.max_epochs
    if last is None or last < 0:
        return
    dataset = module.dataset
    end = dataset.env_steps + max(last - trainer.current_epoch, 0) * dataset.iteration_env_steps
    if end < env_steps:
        rank_zero_info(
            f"Without effect: {key} ({env_steps:,} env steps): the run ends after {end:,} (trainer.max_epochs {last})"
        )
