"""What an iteration tells of itself: gathered on the device, moved to the host at once.

Shape legend: K agents, M measured quantities.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from epo_lightning.experience.base import Experience
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.modules.minibatches import MinibatchLog


class IterationLog:
    """One iteration's numbers; made when it begins.

    Args:
        clock: Tells the host's seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._started = clock()
        self._learning = 0.0

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Time that is spent in here is `time/learning`."""
        start = self.clock()
        yield
        self._learning += self.clock() - start

    def finish(
        self,
        dataset: Experience[Any],
        minibatches: MinibatchLog,
        scalars: Mapping[str, Tensor],
        champion: int,
        metrics: dict[str, float],
    ) -> None:
        """Put everything into `metrics`; with several ranks a collective call.

        Args:
            dataset: The experience, at the end of the iteration.
            minibatches: The iteration's.
            scalars: What the algorithm adds: () tensors by name.
            champion: Whose episodes are the run's.
            metrics: Filled; what a task reported before, and not in this iteration, leaves it.
        """
        elapsed = self.clock() - self._started
        scalars = {
            **{f"losses/{name}": value for name, value in minibatches.means().items()},
            **dataset.diagnostics,
            **_episodes(dataset, champion),
            **scalars,
        }
        values = torch.stack([value.detach().to(torch.float64) for value in scalars.values()]).tolist()
        for name in [name for name in metrics if name.startswith("env/") and name not in scalars]:
            del metrics[name]
        metrics |= dict(zip(scalars, values, strict=True))
        parts = {**dataset.seconds, "learning": self._learning}
        parts["framework"] = elapsed - sum(parts.values())
        metrics |= {f"time/{name}": value for name, value in parts.items()}
        metrics |= {"charts/sps": dataset.iteration_env_steps / elapsed, "charts/env_steps": dataset.env_steps}


def _episodes(dataset: Experience[Any], champion: int) -> dict[str, Tensor]:
    """The last finished episode of every environment, per agent."""
    population, ledger = dataset.population, dataset.ledger
    recent = dataset.recent_episodes
    recent.update(ledger.last, ledger.has_finished)
    means, known_envs = recent.compute()
    recent.reset()
    returns = means[0]
    best = torch.where(returns.isnan().all(), torch.nan, returns.nan_to_num(nan=-torch.inf).max())
    coverage = known_envs.view(-1)[champion] / (population.envs_per_agent * dataset.world.world_size)
    return {
        **{f"charts/episodic_{name}": means[row, champion] for row, name in enumerate(QUANTITIES)},
        "charts/episodic_coverage": coverage,
        "population/return_mean": returns.nanmean(),
        "population/return_best": best,
    }
