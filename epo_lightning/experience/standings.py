"""Agents evaluated side by side: what each of them does, and who is the best besides the champion.

Shape legend: A agents, S seeds of the environments, n environments of an agent, E episodes of each, M measured
quantities.

The highest of many means is too high: it was chosen by the very episodes that it is the mean of. So half of the
episodes choose the best, and the other half tells what it does. Environments are dealt to the halves in turn, and where
there is one of each agent, its episodes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from epo_lightning.algorithm.ties import first_best
from epo_lightning.experience.episodes import QUANTITIES
from epo_lightning.experience.evaluation import Summary, summarize

_RETURN = QUANTITIES.index("return")


class Best(NamedTuple):
    """The best of several agents.

    Attributes:
        agent: Its number.
        summaries: Each quantity over the episodes that did not choose it.
        episodes: How many these are.
    """

    agent: int
    summaries: dict[str, Summary]
    episodes: int


class Standings(NamedTuple):
    """What agents do in the same evaluation.

    Attributes:
        champion: The agent whose results are the run's: the master, where there is one.
        agents: Each agent's summary of every quantity, by its number, in the order in which they are named.
        best: Of those that are not the champion, by return; None of fewer than two, or of one episode each.
        episodes: Of every agent.
        envs: Environments of every agent, over all ranks.
    """

    champion: int
    agents: dict[int, dict[str, Summary]]
    best: Best | None
    episodes: int
    envs: int


def stand(agents: Sequence[int], champion: int, totals: Tensor) -> Standings:
    """The standings of `agents` (A) from totals (S, M, A, E, n) of their episodes."""
    totals = totals.cpu()
    seeds, _, _, episodes, envs = totals.shape
    summaries = {agent: _summary(totals[:, :, place]) for place, agent in enumerate(agents)}
    return Standings(champion, summaries, _best(agents, champion, totals), seeds * episodes * envs, envs)


def _best(agents: Sequence[int], champion: int, totals: Tensor) -> Best | None:
    episodes, envs = totals.shape[-2:]
    others = [place for place, agent in enumerate(agents) if agent != champion]
    if len(others) < 2 or episodes * envs < 2:
        return None
    dealt = totals if envs > 1 else totals.transpose(-1, -2)
    choosing, telling = dealt[..., 0::2], dealt[..., 1::2]
    returns = choosing[:, _RETURN, others].double().mean((0, 2, 3))
    place = others[int(first_best(returns))]
    told = telling[:, :, place]
    return Best(agents[place], _summary(told), told[:, 0].numel())


def _summary(totals: Tensor) -> dict[str, Summary]:
    """Of one agent's totals (S, M, ...)."""
    return summarize(totals.flatten(2))
