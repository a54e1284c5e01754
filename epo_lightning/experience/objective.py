"""What a population is selected by: a quantity of the last finished episodes, or what the task says that is worth.

Shape legend: N environments of this rank, K agents.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from epo_lightning.experience.base import Experience
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.experience.ranks import sum_over_ranks

ObjectiveName = Literal["return", "successes", "true_objective"]
_OF = {"return": "return", "successes": "successes", "true_objective": "successes"}


def objectives(dataset: Experience[Any], name: ObjectiveName) -> Tensor:
    """(K,) float64 on the CPU, mean over an agent's environments on all ranks, of each one's last finished episode.

    NaN of an agent of which some environment has finished none yet. A collective call with several ranks.

    Args:
        dataset: Whose episodes.
        name: `return`, `successes`, or `true_objective`: what the task says that so many successes are worth now.
    """
    ledger, population = dataset.ledger, dataset.population
    values = ledger.last[QUANTITIES.index(_OF[name])]
    if name == "true_objective":
        values = dataset.env.true_objective(values)
    known = torch.where(ledger.has_finished, values, 0.0).double()
    both = torch.stack([known, ledger.has_finished.double()])
    sums = population.sums(both)
    sum_over_ranks(sums)
    total, envs = sums.cpu().unbind()
    whole = population.envs_of() * dataset.world.world_size
    means: Tensor = total / whole
    return means.masked_fill(envs < whole, torch.nan)
