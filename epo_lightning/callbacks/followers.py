"""What callbacks that select among followers need of an algorithm."""

from epo_lightning.limits import Mistake
from epo_lightning.modules import algorithm_name
from epo_lightning.modules.base import PopulationCallback, PopulationModule


def count_followers(callback: PopulationCallback, module: PopulationModule) -> int:
    """How many followers `module` has, for `callback`.

    Raises:
        Mistake: When the algorithm never has any, they have no genes, or it replaces them by itself.
    """
    if module.makes_generations:
        raise Mistake(
            f"trainer.callbacks {type(callback).__name__} selects among followers, and the algorithm"
            f" {algorithm_name(type(module))} selects among its own by itself: leave the callback out"
        )
    if "num_agents" not in module.model_settings or type(module).genome is PopulationModule.genome:
        raise Mistake(
            f"trainer.callbacks {type(callback).__name__} selects among followers that have genes, and the algorithm"
            f" {algorithm_name(type(module))} has none: leave the callback out, or choose by --algorithm one with a"
            " population, such as epo"
        )
    return module.num_agents - 1
