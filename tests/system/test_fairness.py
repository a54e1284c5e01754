"""Selection is fair: where returns do not depend on actions, nobody is favoured; through the real command line.

An episode has 50 steps and pays nothing, or 600 steps and pays 100, spread over them, half and half by chance. A window
has 813 steps in every environment, as in `two_arm.yaml`. So whoever is judged on episodes that end early is paid too
little, and whoever is judged on older ones too much.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from tests.support.command_line import Cli

SHORT, LONG, PAY, WINDOW = 50, 600, 100.0, 813
AGENTS, ENVS, ELITES, GENERATIONS = 16, 512, 4, 20
CONFIG = {
    "model": {
        "num_agents": AGENTS,
        "network": {"gene_dim": 2, "hidden": [4]},
        "rollout": {"horizon": WINDOW // 3, "num_epochs": 1, "num_minibatches": 1},
    },
    "data": {
        "env": {"class_path": f"{__name__}.Lottery"},
        "num_envs": ENVS,
    },
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 3 * GENERATIONS,
        "callbacks": [
            {
                "class_path": "epo_lightning.callbacks.GeneticEvolution",
                "init_args": {
                    "every_n_env_steps": WINDOW * ENVS,
                    "warmup_env_steps": 0,
                    "num_elites": ELITES,
                    "spread_threshold": 0.0,
                },
            }
        ],
    },
}


class Lottery(VectorEnv):
    """Episodes of two kinds, drawn by a coin; actions do nothing."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        self.spec = EnvSpec("Lottery", num_envs, obs_dim=1, act_dim=1, max_episode_steps=LONG)
        self.generator = torch.Generator().manual_seed(seed)
        self.length = self.left = self._draw()

    def _draw(self) -> Tensor:
        return torch.where(torch.rand(self.spec.num_envs, generator=self.generator) < 0.5, SHORT, LONG)

    def reset(self) -> Tensor:
        self.length = self.left = self._draw()
        return torch.zeros(self.spec.num_envs, 1)

    def step(self, actions: Tensor) -> StepResult:
        reward = torch.where(self.length == LONG, PAY / LONG, 0.0)
        left = self.left - 1
        ends, fresh = left == 0, self._draw()
        self.length, self.left = torch.where(ends, fresh, self.length), torch.where(ends, fresh, left)
        nothing = torch.zeros(self.spec.num_envs)
        return StepResult(nothing[:, None], reward, ends, nothing.bool(), nothing)

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.length, "left": self.left, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.length, self.left = state["length"], state["left"]
        self.generator.set_state(state["generator"])


def allowed_by_the_window(windows: int) -> list[float]:
    """Expected return of an environment's first episode that begins in each window, as far as that window lets it run.

    `left[r]` is the probability that r steps of the running episode are left, after each step.
    """
    left = torch.zeros(LONG + 1, dtype=torch.float64)
    left[SHORT] = left[LONG] = 0.5
    expected = []
    for window in range(windows):
        # Episodes that begin with the training are the first window's: its environments begin at step 0
        begins = torch.zeros(WINDOW + 1, dtype=torch.float64)
        old = left.clone()
        if window == 0:
            begins[0], old = 1.0, torch.zeros_like(old)
        for step in range(1, WINDOW + 1):
            ended = left[1].clone()
            begins[step] += old[1]
            left, old = left.roll(-1), old.roll(-1)
            left[LONG] = old[LONG] = 0.0
            left[0] = old[0] = 0.0
            left[SHORT] += 0.5 * ended
            left[LONG] += 0.5 * ended
        # An episode that begins after step b is seen for WINDOW - b steps; half of them are long
        seen = (WINDOW - torch.arange(WINDOW + 1)).clamp(max=LONG)
        expected.append(float((begins * 0.5 * PAY * seen / LONG).sum() / begins.sum()))
    return expected


def test_what_the_window_allows_by_hand() -> None:
    first, second, *_ = allowed_by_the_window(2)
    assert first == 50.0
    # All environments began together. After 813 steps one is in the middle of a long episode or of a short one, and
    # the later it ends the less of its next one is seen
    assert 30 < second < 50


def test_elites_and_children_are_judged_alike(cli: Cli) -> None:
    Path("lottery.yaml").write_text(yaml.safe_dump(CONFIG))
    assert cli("fit", "--config", "lottery.yaml", "--run_dir", "run").code == 0
    lineage = [json.loads(line) for line in Path("run/lineage.jsonl").read_text().splitlines()]
    assert len(lineage) == GENERATIONS
    fitness = torch.tensor([record["fitness"] for record in lineage], dtype=torch.float64)

    expected = torch.tensor(allowed_by_the_window(GENERATIONS), dtype=torch.float64)
    assert abs(fitness.mean() / expected.mean() - 1) < 0.05
    assert abs(fitness[0].mean() / 50 - 1) < 0.1

    pairs = list(pairwise(lineage))
    elites, children = (
        torch.tensor([[now["fitness"][agent] for agent in before[who]] for before, now in pairs])
        for who in ("elites", "children")
    )
    error = math.sqrt(elites.var() / elites.numel() + children.var() / children.numel())
    assert abs(elites.mean() - children.mean()) < 2 * error
    # Each of 15 followers is as likely to be among the next four
    chance = ELITES / (AGENTS - 1)
    survived = sum(len(set(before["elites"]) & set(now["elites"])) for before, now in pairs) / (len(pairs) * ELITES)
    assert abs(survived - chance) < 2 * math.sqrt(chance * (1 - chance) / (len(pairs) * ELITES))
