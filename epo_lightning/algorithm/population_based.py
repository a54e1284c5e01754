"""Population Based Training: who goes on with whose weights and hyper-parameters; pure functions.

Shape legend: P agents, M of them that act.

Two rules are here: that of DexPBT (arXiv 2305.12127) and that of the peers that came after it. All randomness comes
from the generator handed in, so that rank 0 can decide for every rank; it draws for all agents, whoever acts.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from epo_lightning.algorithm.genetics import rank, tie_width
from epo_lightning.limits import Mistake, require_range

KEY = "trainer.callbacks PopulationBasedTraining"
RuleName = Literal["dexpbt", "margins"]

OUTLIERS = 0.2
"""Share of the known objectives, the worst, that the standard deviation leaves out, rounded down."""
COIN = 0.5
FEWEST = 2
"""Nobody is replaced before more than so many objectives are known, and more than half of the agents'."""


class Standing(NamedTuple):
    """What is known of the agents at a check; on the CPU.

    Attributes:
        objectives: (P,) float64 of each one's newest record; NaN of an agent that has none.
        best: (P,) float64, the highest objective since the check before; NaN where it was not known.
        may_act: (P,) bool: it has a new record, and has trained for long enough since it began.
    """

    objectives: Tensor
    best: Tensor
    may_act: Tensor


class Decision(NamedTuple):
    """What a check leads to.

    Attributes:
        agents: (M,) int64 who acts.
        parents: (M,) int64 whose weights they take; their own where they keep them.
        sources: (M,) int64 whose hyper-parameters they take, before these are mutated.
    """

    agents: Tensor
    parents: Tensor
    sources: Tensor

    @property
    def with_weights(self) -> Tensor:
        """(M,) bool: who takes somebody else's weights."""
        return self.parents != self.agents


class Rule(ABC):
    """Decides who acts, and says how much hyper-parameters change.

    Args:
        mutation_rate: Chance of each hyper-parameter to change.
        change: Range of the factor by which it is multiplied or divided.
    """

    name: str

    def __init__(self, mutation_rate: float, change: tuple[float, float]) -> None:
        self.mutation_rate, self.change = mutation_rate, (change[0], change[1])

    def check(self, num_agents: int) -> None:
        """Refuse constants out of range, and populations that are too small.

        Raises:
            Mistake: One line that names key and remedy.
        """
        key = f"{KEY}.rule"
        require_range(f"{key}.mutation_rate", self.mutation_rate, 0, 1)
        require_range(f"{key}.change", self.change[0], 1)
        if self.change[1] < self.change[0]:
            raise Mistake(f"{key}.change must be two factors, the smaller one first, got {list(self.change)}")
        if num_agents < 2:
            raise Mistake(f"model.num_agents must be at least 2 for {KEY}, got {num_agents}")

    @abstractmethod
    def top(self, objectives: Tensor) -> Tensor:
        """Ids of those whose weights others may take, best first; see `Standing.objectives`."""

    @abstractmethod
    def decide(self, standing: Standing, generator: torch.Generator) -> Decision:
        """Who acts now, and with whose weights and hyper-parameters."""


class DexPBT(Rule):
    """The rule of DexPBT: a few of the worst act; they take weights only where those are better by two thresholds.

    Args:
        fraction_worst: ceil(fraction x P) agents may be replaced.
        fraction_best: One of the ceil(fraction x P) best replaces them, drawn uniformly.
        threshold_std: It must be better by more than so many standard deviations of the population's objectives.
        threshold_absolute: And by more than this share of its own objective's absolute value.
        mutation_rate: Chance of each hyper-parameter to change.
        change: Range of the factor by which it is multiplied or divided.
    """

    name = "dexpbt"

    def __init__(
        self,
        fraction_worst: float = 0.125,
        fraction_best: float = 0.3,
        threshold_std: float = 0.5,
        threshold_absolute: float = 0.05,
        mutation_rate: float = 0.15,
        change: tuple[float, float] = (1.1, 1.5),
    ) -> None:
        super().__init__(mutation_rate, change)
        self.fraction_worst, self.fraction_best = fraction_worst, fraction_best
        self.threshold_std, self.threshold_absolute = threshold_std, threshold_absolute

    def check(self, num_agents: int) -> None:
        """As of every rule; and nobody could ever be replaced of two."""
        super().check(num_agents)
        for name in ("fraction_worst", "fraction_best"):
            require_range(f"{KEY}.rule.{name}", getattr(self, name), 0, 1, open_low=True)
        for name in ("threshold_std", "threshold_absolute"):
            require_range(f"{KEY}.rule.{name}", getattr(self, name), 0)
        if num_agents <= FEWEST:
            raise Mistake(
                f"{KEY}.rule dexpbt replaces nobody before {FEWEST + 1} objectives are known: model.num_agents must be"
                f" at least {FEWEST + 1}, got {num_agents}"
            )

    def top(self, objectives: Tensor) -> Tensor:
        """The ceil(fraction_best x P) best."""
        return order(objectives)[: math.ceil(self.fraction_best * len(objectives))]

    def decide(self, standing: Standing, generator: torch.Generator) -> Decision:
        """See the class."""
        agents, known = len(standing.objectives), ~standing.objectives.isnan()
        objectives, tie = standing.objectives.nan_to_num(nan=-math.inf), _tie(standing.objectives)
        top = self.top(standing.objectives)
        worst = order(standing.objectives)[-math.ceil(self.fraction_worst * agents) :]
        drawn = top[torch.randint(len(top), (agents,), generator=generator)]
        own = torch.rand(agents, generator=generator, dtype=torch.float64) >= COIN

        acts = torch.zeros_like(known).index_fill(0, worst, True) & standing.may_act & known
        # who reached the top group since the check before stays: a dip is no reason
        acts &= ~(standing.best >= objectives[top].min() - tie)
        acts &= known.sum() > max(FEWEST, agents // 2)
        chosen = acts.nonzero()[:, 0]
        candidate = drawn[chosen]
        # o_c - o > 0.5 std  and  o_c - o > 0.05 |o_c|
        gain = objectives[candidate] - objectives[chosen]
        enough = torch.maximum(
            self.threshold_std * spread(standing.objectives), self.threshold_absolute * objectives[candidate].abs()
        )
        parents = torch.where(gain > enough + tie, candidate, chosen)
        return Decision(chosen, parents, torch.where(own[chosen], chosen, parents))


class Margins(Rule):
    """The rule of the newer peers: who is below the mean by two margins takes weights from one who is above by both.

    Where nobody is, it keeps its own and changes its hyper-parameters.

    Args:
        margin_std: Margin in standard deviations of the objectives.
        margin_absolute: Margin in units of the objective.
        mutation_rate: Chance of each hyper-parameter to change.
        change: Range of the factor by which it is multiplied or divided.
    """

    name = "margins"

    def __init__(
        self,
        margin_std: float = 0.10,
        margin_absolute: float = 0.05,
        mutation_rate: float = 0.25,
        change: tuple[float, float] = (1.1, 2.0),
    ) -> None:
        super().__init__(mutation_rate, change)
        self.margin_std, self.margin_absolute = margin_std, margin_absolute

    def check(self, num_agents: int) -> None:
        """As of every rule."""
        super().check(num_agents)
        for name in ("margin_std", "margin_absolute"):
            require_range(f"{KEY}.rule.{name}", getattr(self, name), 0)

    def top(self, objectives: Tensor) -> Tensor:
        """Those above the mean by both margins."""
        mean, margin = self._mean_and_margin(objectives)
        ranking = order(objectives)
        return ranking[objectives[ranking] > mean + margin]

    def decide(self, standing: Standing, generator: torch.Generator) -> Decision:
        """See the class."""
        objectives = standing.objectives
        mean, margin = self._mean_and_margin(objectives)
        leaders, shares = self.top(objectives), torch.rand(len(objectives), generator=generator, dtype=torch.float64)
        chosen = (standing.may_act & (objectives < mean - margin)).nonzero()[:, 0]
        parents = leaders[(shares[chosen] * len(leaders)).long()] if len(leaders) else chosen
        return Decision(chosen, parents, parents)

    def _mean_and_margin(self, objectives: Tensor) -> tuple[Tensor, Tensor]:
        """() each; leader: o > max(mean + 0.10 std, mean + 0.05), and the mirror image below."""
        known = objectives[~objectives.isnan()]
        std = known.std(unbiased=False) if len(known) else known.sum()
        mean = known.mean() if len(known) else known.sum()
        return mean, (self.margin_std * std).clamp(min=self.margin_absolute) + _tie(objectives)


def by_name(name: RuleName) -> Rule:
    """The rule that is called `name`, with its own constants."""
    return {kind.name: kind for kind in (DexPBT, Margins)}[name]()


def order(objectives: Tensor) -> Tensor:
    """(P,) ids, best first; equal ones, to rounding, keep the order of ids; those without an objective come last."""
    known = ~objectives.isnan()
    ids = torch.arange(len(objectives))
    return torch.cat([ids[known][rank(objectives[known])] if known.any() else ids[known], ids[~known]])


def spread(objectives: Tensor) -> Tensor:
    """() standard deviation of the known objectives without the floor(0.2 n) worst of them."""
    known = objectives[~objectives.isnan()].sort().values
    return known[math.floor(OUTLIERS * len(known)) :].std(unbiased=False)


def _tie(objectives: Tensor) -> Tensor:
    """() difference up to which two objectives are equal."""
    known = objectives[~objectives.isnan()]
    return tie_width(known) if len(known) else known.sum()
