"""Runs through the command line: a tiny one, one without an end, and how they end."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

TINY = """
model:
  num_agents: 4
  network: {gene_dim: 3, hidden: [8]}
  rollout: {horizon: 4, num_epochs: 1, num_minibatches: 2}
data:
  env: {class_path: epo_lightning.envs.classic.Probe, init_args: {max_steps: 3}}
  num_envs: 16
  eval_episodes: 8
  eval_envs: 4
trainer: {accelerator: cpu, devices: 1, max_epochs: 2}
"""
TINY_SAC = """
algorithm: sac
model:
  network: {actor: [8], critic: [8], atoms: 11}
  optimizer: {updates_per_step: 2, actor_every: 2}
  replay: {capacity_per_env: 20, batch_size: 16, warmup: 5, horizon: 4}
data:
  env: {class_path: epo_lightning.envs.classic.Probe, init_args: {max_steps: 3}}
  num_envs: 16
  eval_episodes: 8
  eval_envs: 4
trainer: {accelerator: cpu, devices: 1, max_epochs: 3}
"""
TINY_PQL = """
algorithm: pql
model:
  network: {actor: [8], critic: [8]}
  optimizer: {updates_per_step: 2}
  replay: {capacity_per_env: 20, batch_size: 16, warmup: 5, horizon: 4}
data:
  env: {class_path: epo_lightning.envs.classic.Probe, init_args: {max_steps: 3}}
  num_envs: 16
  eval_episodes: 8
  eval_envs: 4
trainer: {accelerator: cpu, devices: 1, max_epochs: 3}
"""
TINY_CEM_RL = """
algorithm: cem_rl
model:
  num_agents: 5
  network: {actor: [8], critic: [8]}
  evolution: {gradient_members: 2, parents: 2}
  optimizer: {critic_updates_per_env_step: 0.1, actor_updates_per_env_step: 0.05}
  replay: {capacity_per_env: 20, batch_size: 16, warmup: 3}
  generation: {horizon: 4}
data:
  env: {class_path: epo_lightning.envs.classic.Probe, init_args: {max_steps: 3}}
  num_envs: 20
  eval_episodes: 8
  eval_envs: 4
trainer: {accelerator: cpu, devices: 1, max_epochs: 3}
"""
ENDLESS = ("--trainer.max_epochs=-1", "--checkpoint.every_n_iterations=2", "--data.num_envs=64")


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def refused(outcome: Outcome, *words: str) -> None:
    """A mistake of the user: one line, with these words."""
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err


class Cli(Protocol):
    """The fixture `cli`: `epo-lightning` with these arguments, as text."""

    def __call__(self, *args: object) -> Outcome: ...


Rows = Callable[[Path], list[dict[str, str]]]
"""The fixture `rows`: the lines of a run folder's `metrics.csv`."""


def wait_for_rows(metrics: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the run of `process` has written more than `count` lines of `metrics`, heading included."""
    for _ in range(10_000):
        if metrics.exists() and len(metrics.read_text().splitlines()) > count:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError("the run did not start")
