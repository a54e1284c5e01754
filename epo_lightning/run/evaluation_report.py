"""What `validate` and `test` tell: a table, and the same numbers in a file."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import lightning as L

from epo_lightning.experience.evaluation import Summary
from epo_lightning.modules.base import PopulationCallback
from epo_lightning.pretrained import is_packaged
from epo_lightning.run.code import made_by
from epo_lightning.run.standings_table import standings_as_json, summaries_as_json, told_standings


class EvaluationReport(PopulationCallback):
    """Prints the master's results and, with a checkpoint, writes them next to it.

    `validate` writes `<checkpoint>.evaluation.json`, `test` `<checkpoint>.test.json`. Where several agents were
    evaluated side by side, they follow. Of a policy that comes with the package they go to the working directory.

    Args:
        env: The environment as the configuration has it: `class_path` and `init_args`.
    """

    def __init__(self, env: dict[str, Any]) -> None:
        self.env = env

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """In environments of the run's seed."""
        self._report(trainer, [self.module.data.seed], "evaluation")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """In environments of the evaluation's seeds."""
        self._report(trainer, list(self.module.data.eval_seeds), "test")

    def _report(self, trainer: L.Trainer, seeds: list[int], kind: str) -> None:
        """All ranks have the same numbers; one speaks."""
        if not trainer.is_global_zero:
            return
        module = self.module
        episodes = sum(part.shape[1] for part in module.episodes)
        task, difficulty = module.data.spec.name, module.data.difficulty
        at = "".join(f", {name} {value:.4g}" for name, value in difficulty.items())
        where = f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"
        who = module.policy.name_of(module.champion)
        source = trainer.ckpt_path or "an untrained network"
        print(f"{task}: {episodes} episodes of the {who} of {source}, without exploration noise, {where}{at}")
        print(table(module.evaluation))
        if module.standings:
            print(f"\n{told_standings(module.standings, module.policy.name_of)}\n")
        if trainer.ckpt_path is None:
            return
        content = {
            "task": task,
            "env": self.env,
            "checkpoint": str(trainer.ckpt_path),
            "difficulty": difficulty,
            "episodes": episodes,
            "seeds": seeds,
            **made_by(),
            **summaries_as_json(module.evaluation),
        }
        if module.standings:
            content["agents"] = standings_as_json(module.standings, module.policy.name_of, module.env_steps)
        source_file = Path(trainer.ckpt_path)
        beside = Path(source_file.name) if is_packaged(source_file) else source_file
        target = beside.with_suffix(f".{kind}.json")
        try:
            target.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:  # the result is printed all the same
            print(f"notice: {target} was not written: {error.strerror or error}", file=sys.stderr)
        else:
            print(f"Written to {target}")


def table(summaries: dict[str, Summary]) -> str:
    """One line per quantity; the error over seeds where there are several.

    A dash stands for what is not known, and for successes where no episode had one: a task may know none.
    """
    columns = {"mean": "mean", "standard_error": "standard error", "seed_error": "error over seeds"}
    if len(next(iter(summaries.values())).seed_means) == 1:
        del columns["seed_error"]
    lines = [f"{'':12}" + "".join(f"{title:>18}" for title in columns.values())]
    for name, summary in summaries.items():
        is_known = name != "successes" or any(summary.seed_means)
        values = [getattr(summary, column) if is_known else math.nan for column in columns]
        lines.append(f"{name:12}" + "".join(f"{'-' if math.isnan(value) else f'{value:.4g}':>18}" for value in values))
    return "\n".join(lines)
