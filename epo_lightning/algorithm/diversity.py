"""A reward for being told apart: how sure a classifier of the agents is that it was this one (CPO, arXiv 2603.01741).

Shape legend: K agents.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from epo_lightning.algorithm.population import MASTER
from epo_lightning.limits import require_range


@dataclass(frozen=True)
class DiversitySettings:
    """The reward for being told apart, and the classifier that is asked.

    Args:
        coefficient: c: a follower k learns from its reward, scaled, plus c log q(k | s, a); the master from its reward
            alone. Reported returns and fitness are without it. 0: there is neither reward nor classifier.
        hidden: Widths of the classifier's layers.
        learning_rate: Of the classifier.
        num_minibatches: Steps of the classifier per iteration, which together see each sample of the rollout once.
    """

    coefficient: float = 0.0
    hidden: tuple[int, ...] = (128, 128)
    learning_rate: float = 5e-4
    num_minibatches: int = 12

    def __post_init__(self) -> None:
        key = "model.diversity"
        require_range(f"{key}.coefficient", self.coefficient, 0)
        for units in self.hidden:
            require_range(f"{key}.hidden", units, 1)
        require_range(f"{key}.learning_rate", self.learning_rate, 0, open_low=True)
        require_range(f"{key}.num_minibatches", self.num_minibatches, 1)


def diversity_bonus(log_probs: Tensor, agents: Tensor, coefficient: float) -> Tensor:
    """(...,) c log q(k | s, a) of the agents k that learn; 0 where that is the master.

    Args:
        log_probs: (..., K) log q of every agent.
        agents: (...,) int64, who learns from each sample.
        coefficient: c.
    """
    own = log_probs.gather(-1, agents[..., None]).squeeze(-1)
    return torch.where(agents == MASTER, 0.0, coefficient * own)
