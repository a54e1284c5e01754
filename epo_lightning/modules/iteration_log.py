"""What an iteration tells of itself: gathered on the device, moved to the host at once.

Shape legend: K agents, M measured quantities.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from epo_lightning.experience.base import Experience
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.experience.ranks import sum_together
from epo_lightning.modules.minibatches import MinibatchLog

_RETURN, _SUCCESSES = QUANTITIES.index("return"), QUANTITIES.index("successes")


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
        recent, ledger = dataset.recent_episodes, dataset.ledger
        recent.update(ledger.last, ledger.has_finished)
        recent.total, recent.count, succeeded = sum_together([recent.total, recent.count, ledger.has_succeeded])
        means, known_envs = recent.compute()
        recent.reset()
        scalars = {
            **{f"losses/{name}": value for name, value in minibatches.means().items()},
            **dataset.diagnostics,
            **_episodes(dataset, means, known_envs, champion),
            **scalars,
        }
        of_agents = {**_episodes_of_agents(dataset, means, known_envs, succeeded > 0), **dataset.of_agents}
        stacked = torch.stack([value.detach().to(torch.float64) for value in scalars.values()])
        values = torch.cat([stacked, *of_agents.values()]).tolist()  # the one time that the host waits
        for name in [name for name in metrics if name.startswith(("env/", "agents/")) and name not in scalars]:
            del metrics[name]
        metrics |= dict(zip(scalars, values[: len(scalars)], strict=True))
        told = zip(_names(tuple(of_agents), dataset.population.num_agents), values[len(scalars) :], strict=True)
        metrics |= {name: value for name, value in told if not math.isnan(value)}
        parts = {**dataset.seconds, "learning": self._learning}
        parts["framework"] = elapsed - sum(parts.values())
        metrics |= {f"time/{name}": value for name, value in parts.items()}
        metrics |= {"charts/sps": dataset.iteration_env_steps / elapsed, "charts/env_steps": dataset.env_steps}


@cache
def _names(quantities: tuple[str, ...], agents: int) -> list[str]:
    """Of (K,) tensors on end: `agents/return/0`."""
    return [f"agents/{name}/{k}" for name in quantities for k in range(agents)]


def _episodes(dataset: Experience[Any], means: Tensor, known_envs: Tensor, champion: int) -> dict[str, Tensor]:
    """The last finished episode of every environment: its (M, K) means per agent, in words of the field.

    The population's mean and best are of the agents all of whose environments have finished one: of the others quick
    endings would count more.
    """
    coverage = known_envs.view(-1) / _all_envs(dataset)
    returns = means[_RETURN].masked_fill(coverage < 1, torch.nan)
    best = torch.where(returns.isnan().all(), torch.nan, returns.nan_to_num(nan=-torch.inf).max())
    return {
        **{f"charts/episodic_{name}": means[row, champion] for row, name in enumerate(QUANTITIES)},
        "charts/episodic_coverage": coverage[champion],
        "population/return_mean": returns.nanmean(),
        "population/return_best": best,
    }


def _all_envs(dataset: Experience[Any]) -> Tensor:
    """(K,) environments of each agent, on all ranks."""
    return dataset.population.envs_of(dataset.device) * dataset.world.world_size


def _episodes_of_agents(
    dataset: Experience[Any], means: Tensor, known_envs: Tensor, has_succeeded: Tensor
) -> dict[str, Tensor]:
    """(K,) of each name, where all environments of an agent have finished an episode; nothing of a single agent.

    Successes once one was counted: until then the task may count none.
    """
    if dataset.population.num_agents == 1:
        return {}
    unknown = known_envs.view(-1) < _all_envs(dataset)
    return {
        "return": means[_RETURN].masked_fill(unknown, torch.nan),
        "successes": means[_SUCCESSES].masked_fill(unknown | ~has_succeeded, torch.nan),
    }
