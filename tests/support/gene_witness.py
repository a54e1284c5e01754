"""A callback that notes genes."""

import lightning as L
from torch import Tensor

from epo_lightning.modules.epo import EPOModule


class Witness(L.Callback):
    """Notes the genes before and, as a second instance behind the evolution, after each generation."""

    def __init__(self) -> None:
        self.genes: list[Tensor] = []

    @property
    def state_key(self) -> str:
        return f"Witness {id(self)}"

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        self.genes.append(pl_module.policy.genes.detach().clone())
