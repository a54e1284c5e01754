"""What `validate` and `test` tell: a table, and the same numbers in a file."""

import json
from pathlib import Path

import lightning as L

from epo_lightning.module import EPOModule


class EvaluationReport(L.Callback):
    """Prints the master's results and, with a checkpoint, writes them beside it as `<checkpoint>.evaluation.json`."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """All ranks have the same numbers; one speaks."""
        assert isinstance(pl_module, EPOModule)
        if not trainer.is_global_zero:
            return
        task, summaries = pl_module.data.spec.name, pl_module.evaluation
        episodes = next(iter(summaries.values())).episodes
        source = trainer.ckpt_path or "an untrained network"
        print(f"{task}: {episodes} episodes of the master of {source}, without exploration noise")
        print(f"{'':12}{'mean':>14}{'standard error':>18}")
        for name, summary in summaries.items():
            print(f"{name:12}{summary.mean:>14.6g}{summary.standard_error:>18.3g}")
        if trainer.ckpt_path is None:
            return
        values = {
            name: {"mean": item.mean, "standard_error": item.standard_error if episodes > 1 else None}
            for name, item in summaries.items()
        }
        content = {"task": task, "checkpoint": str(trainer.ckpt_path), "episodes": episodes, **values}
        target = Path(trainer.ckpt_path).with_suffix(".evaluation.json")
        target.write_text(json.dumps(content, indent=2) + "\n")
        print(f"Written to {target}")

    on_test_end = on_validation_end
