"""What the settings of a run make, in words: PPO, SAPG, CPO, EPO, PBT, or another algorithm."""

from collections.abc import Sequence

from epo_lightning.modules import DEFAULT_ALGORITHM, algorithm_name

_EVOLUTION = "GeneticEvolution"
_APART, _EXCHANGE = "pbt", "PopulationBasedTraining"
_COUPLED = "followers coupled to the master (model.loss.coupling_coefficient)"


def method(module: type, num_agents: int, callbacks: Sequence[object], coupled: bool = False) -> str:
    """One line for the beginning of a run.

    Args:
        module: The class of the module.
        num_agents: K.
        callbacks: Those of the trainer.
        coupled: Whether followers are coupled to the master.
    """
    name = algorithm_name(module)
    agents = "one agent" if num_agents == 1 else f"{num_agents} agents"
    if name == _APART:
        if any(kind.__name__ == _EXCHANGE for callback in callbacks for kind in type(callback).__mro__):
            return f"PBT: {agents} with networks of their own, selected and mutated by {_EXCHANGE}"
        return f"PBT: {agents} side by side, without exchange ({_EXCHANGE} in trainer.callbacks adds it)"
    if name != DEFAULT_ALGORITHM:
        return f"{name if '.' in name else name.upper().replace('_', '-')}: {agents}"
    evolves = any(kind.__name__ == _EVOLUTION for callback in callbacks for kind in type(callback).__mro__)
    if coupled and evolves:
        return f"EPO + CPO: {agents}, {_COUPLED}, evolved by {_EVOLUTION}"
    if evolves:
        return f"EPO: {agents}, evolved by {_EVOLUTION}"
    if num_agents == 1:
        return "PPO: one agent, no population (model.num_agents)"
    if coupled:
        return f"CPO: {agents}, {_COUPLED}, no evolution ({_EVOLUTION} in trainer.callbacks adds it)"
    return f"SAPG: {agents}, no evolution ({_EVOLUTION} in trainer.callbacks makes it EPO)"
