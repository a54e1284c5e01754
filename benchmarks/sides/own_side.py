"""This system, or the plain loop of `benchmarks/learner.py`, in `benchmarks/peers.py`."""

import logging
import sys
import time
import warnings
from pathlib import Path

import torch
from noise import given, tell

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from learner import NoiseEnv, PlainPPO, System

from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.modules.compilation import LearnerCompilation


def main() -> None:
    """Train and tell."""
    job = given()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if job["keep_memory"]:
        keep_freed_memory()
    if job["processor_time"]:
        NoiseEnv.clock = time.process_time
    hidden, agents = tuple(job["hidden"]), job["agents"]
    gene = 32 if agents > 1 else 0
    if job["plain"]:
        side: PlainPPO | System = PlainPPO(NoiseEnv(job["envs"], torch.device("cpu"), 0), hidden, agents, gene)
    else:
        side = System(job["envs"], hidden, agents, gene, job["folder"])
        side.module.compilation = LearnerCompilation("always" if job["compile"] else "never")
    side.run(job["iterations"])
    tell(side.env.times, job["warm_up"])


if __name__ == "__main__":
    main()
