"""Run folders without a training: what a report reads."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONFIG = """
algorithm: {algorithm}
seed_everything: {seed}
model:
  num_agents: {agents}
  loss: {{entropy_scale: {entropy}{coupling}}}
data:
  env: {{class_path: epo_lightning.envs.classic.{task}, init_args: {{max_steps: 100}}}}
trainer:
  max_epochs: 120
  callbacks: {callbacks}
"""
EVOLUTION = """
  - class_path: epo_lightning.callbacks.GeneticEvolution
    init_args: {num_elites: 1, spread_threshold: 0.5, seed: null}
  - class_path: epo_lightning.callbacks.NaNGuard"""
EXCHANGE = """
  - class_path: epo_lightning.callbacks.PopulationBasedTraining
    init_args: {interval_steps: 100, seed: null}"""
HEADER = "charts/env_steps,charts/sps,charts/episodic_coverage,charts/episodic_return\r\n"


def table(returns: Sequence[object], coverage: Sequence[object] | None = None) -> str:
    """A `metrics.csv`: 100 env steps an iteration at 50 a second."""
    covered = coverage or [1.0] * len(returns)
    rows = [f"{100 * (i + 1)},50,{c},{r}\r\n" for i, (r, c) in enumerate(zip(returns, covered, strict=True))]
    return HEADER + "".join(rows)


def make_run(
    path: Path,
    returns: Sequence[object] = (1.0, 2.0),
    seed: int = 0,
    *,
    algorithm: str = "epo",
    agents: int = 1,
    entropy: float = 0.1,
    task: str = "WallMaze",
    evolves: bool = False,
    coupling: float | None = None,
    metrics: str | None = None,
    lineage: Sequence[dict[str, Any]] = (),
) -> Path:
    """A folder with a configuration and a table, `metrics` as it stands when given."""
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").write_text(
        CONFIG.format(
            algorithm=algorithm,
            seed=seed,
            agents=agents,
            entropy=entropy,
            coupling="" if coupling is None else f", coupling_coefficient: {coupling}",
            task=task,
            callbacks=(EXCHANGE if algorithm == "pbt" else EVOLUTION) if evolves else "null",
        )
    )
    (path / "metrics.csv").write_text(table(returns) if metrics is None else metrics, newline="")
    if lineage:
        (path / "lineage.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lineage))
    return path


def evaluate(path: Path, value: float, name: str = "last.test.json", **more: Any) -> None:
    """As if `test` had played the run's checkpoint."""
    content = {"episodes": 64, "difficulty": {}, "env": {"init_args": {}}, "return": {"mean": value}, **more}
    (path / "checkpoints" / name).write_text(json.dumps(content))
