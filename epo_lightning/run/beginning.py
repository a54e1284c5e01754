"""A new run that begins with the weights of a policy instead of random ones."""

from pathlib import Path
from typing import Any

import lightning as L

from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.modules.identity import require_same_identity
from epo_lightning.run.checkpoint import fingerprint, read_checkpoint


class BeginsWith(PopulationCallback):
    """Puts weights, genes and normalisers of a checkpoint into a run that begins; everything else begins anew.

    Args:
        path: The checkpoint.
        flag: What names it on the command line, for messages.

    Raises:
        Mistake: When it is of another task or make: in `setup`, before anything is written.
    """

    def __init__(self, path: Path, flag: str) -> None:
        self.path, self.flag = path, flag

    @property
    def origin(self) -> dict[str, str]:
        """For `run.json`: what the policy is called, and the fingerprint of its checkpoint."""
        return {"policy": self.path.stem, "id": fingerprint(self.path)}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Compare what it was made for."""
        super().setup(trainer, pl_module, stage)
        identity = contents.identity_of(read_checkpoint(self.path))
        try:
            require_same_identity(identity, self.module.identity(self.module.data.spec), self.module.changeable)
        except Mistake as mistake:
            words = str(mistake).replace("--ckpt_path", self.flag).replace("the checkpoint", "the policy")
            raise Mistake(words) from None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put them in, where every rank has its network already."""
        if trainer.ckpt_path is not None:  # the run has begun before
            return
        saved: dict[str, Any] = read_checkpoint(self.path)
        own, theirs = self.module.state_dict(), saved["state_dict"]
        unlike = [name for name in own.keys() | theirs.keys() if name not in own or name not in theirs]
        unlike += [name for name in own.keys() & theirs.keys() if own[name].shape != theirs[name].shape]
        if unlike:
            raise Mistake(
                f"{self.flag} does not match this run: its weights lack, have too much, or have in another shape"
                f" {min(unlike)!a}: leave the settings of model to the policy"
            )
        self.module.load_state_dict(theirs)
        if trainer.is_global_zero:
            print(f"Begins with the weights of {self.path.stem} ({contents.env_steps_of(saved):,} env steps)")
