"""Population based training on both ranks of `test_ddp.py`: `python -m tests.support.two_ranks_pbt FOLDER`."""

import sys
from pathlib import Path

import lightning as L
import torch

from epo_lightning.algorithm.population_based import Margins
from epo_lightning.callbacks import NaNGuard, PopulationBasedTraining
from epo_lightning.experience.objective import objectives
from epo_lightning.modules.pbt import PBTModule
from tests.support.apart import apart
from tests.support.training import small_data
from tests.support.two_ranks import RememberingProbe, on_two_ranks


class PopulationWitness(L.Callback):
    """Writes what each rank holds at the end."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, PBTModule)
        (training,) = (each for each in trainer.callbacks if isinstance(each, PopulationBasedTraining))  # type: ignore[attr-defined]
        dataset = pl_module.dataset
        held = {
            "weights": pl_module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict()["state"],
            "training": {name: value for name, value in training.state_dict().items() if name != "generator"},
            "lineage": training.lineage.records,
            "observations": dataset.buffer.obs,
            "last": dataset.ledger.last[0],
            "objectives": objectives(dataset, "return"),
        }
        torch.save(held, Path(trainer.default_root_dir) / f"rank{trainer.global_rank}.pt")


def main(folder: str) -> None:
    """Six iterations; who is below the mean acts after each, once it has finished an episode."""
    (run := Path(folder) / "pbt").mkdir(exist_ok=True)  # both ranks come by
    torch.set_num_threads(1)
    training = PopulationBasedTraining(
        interval_steps=32, start_after=0, initial_delay=0, rule=Margins(mutation_rate=1.0)
    )
    trainer = on_two_ranks(str(run), 6, [training, NaNGuard(), PopulationWitness()])
    trainer.fit(apart(4), small_data(16, RememberingProbe))


if __name__ == "__main__":
    main(sys.argv[1])
