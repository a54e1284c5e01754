"""Which hyper-parameters of a population may change, and within which bounds."""

import math
from collections.abc import Mapping

from epo_lightning.algorithm.mutation import SPECIAL, Gene
from epo_lightning.algorithm.population_based import KEY
from epo_lightning.documents.nearest import hint
from epo_lightning.learner.hyper_parameters import REWARD
from epo_lightning.limits import Mistake

Bounds = Mapping[str, tuple[float, float] | None]
"""By name: smallest and largest value, or None for those of DexPBT."""

DEFAULT_GENOME = ("max_grad_norm", "critic", "bounds", "target_kl", "clip", "num_epochs", "gamma")
"""What DexPBT changes of the learner: neither learning rate nor entropy."""
_LIMITS = {"gamma": (0.0, 1.0), "num_epochs": (1.0, math.inf)}
"""Of what is no positive number; a reward parameter may be anything."""


def genes_of(genome: Bounds | None, reward_genome: Bounds, initial: Mapping[str, float]) -> dict[str, Gene]:
    """How each hyper-parameter that may change does.

    Args:
        genome: Of the learner; None for what DexPBT changes, as far as a multiplication can.
        reward_genome: Of the task's reward, by the task's own names.
        initial: What every agent begins with, of each name that the algorithm and the task have.

    Raises:
        Mistake: When there is no such hyper-parameter, its bounds are none, or what it begins with is not within them.
    """
    learner = [name for name in initial if not name.startswith(REWARD)]
    if genome is None:
        genome = {name: None for name in DEFAULT_GENOME if name in initial and _moves(initial[name])}
    rewards = [name.removeprefix(REWARD) for name in initial if name.startswith(REWARD)]
    has = f"it has {', '.join(rewards)}" if rewards else "it has none; remove reward_genome"
    genes = {}
    for name, bounds in genome.items():
        if name not in learner:
            raise Mistake(
                f"{KEY}.genome: the algorithm has no hyper-parameter {name!r}{hint(name, learner)}; it has"
                f" {', '.join(learner)}"
            )
        genes[name] = _gene(f"{KEY}.genome.{name}", name, bounds, initial[name])
    for name, bounds in reward_genome.items():
        if name not in rewards:
            raise Mistake(
                f"{KEY}.reward_genome: the task's reward has no parameter {name!r}{hint(name, rewards)}; {has}"
            )
        genes[REWARD + name] = _gene(f"{KEY}.reward_genome.{name}", REWARD + name, bounds, initial[REWARD + name])
    if not genes:
        raise Mistake(f"{KEY}.genome is empty: name a hyper-parameter that may change, such as clip")
    return genes


def _gene(key: str, name: str, bounds: tuple[float, float] | None, initial: float) -> Gene:
    gene = SPECIAL.get(name, Gene())
    if bounds is not None:
        low, high = bounds
        least, most = _LIMITS.get(name, (-math.inf if name.startswith(REWARD) else 0.0, math.inf))
        if not least <= low < high <= most:
            within = f" within {least:g} and {most:g}" if math.isfinite(least) else ""
            raise Mistake(f"{key} must be two bounds, the smaller one first{within}, got {list(bounds)}")
        gene = gene._replace(low=float(low), high=float(high))
    if not _moves(initial):
        value = "it is off" if math.isnan(initial) else "it is 0, and stays 0 whatever it is multiplied with"
        raise Mistake(f"{key}: {value}: set it under model to where it shall begin, or take it out of the genome")
    if not gene.low <= initial <= gene.high:
        raise Mistake(
            f"{key}: the run begins with {initial:g}, out of its bounds [{gene.low:g}, {gene.high:g}]: change either"
        )
    return gene


def _moves(initial: float) -> bool:
    """Whether a multiplication changes it."""
    return math.isfinite(initial) and initial != 0
