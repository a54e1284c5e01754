"""What the settings of a run make, in words."""

from epo_lightning.callbacks import GeneticEvolution, NaNGuard, PopulationBasedTraining
from epo_lightning.modules.cem_rl import CEMRLModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.modules.pbt import PBTModule
from epo_lightning.modules.sac import SACModule
from epo_lightning.run.method import method


class MyEvolution(GeneticEvolution):
    """One of one's own."""


class Own(EPOModule):
    """Another algorithm."""


def test_agents_and_callbacks_make_the_method() -> None:
    assert method(EPOModule, 1, [NaNGuard()]) == "PPO: one agent, no population (model.num_agents)"
    sapg = "SAPG: 4 agents, no evolution (GeneticEvolution in trainer.callbacks makes it EPO)"
    assert method(EPOModule, 4, [NaNGuard()]) == sapg
    assert method(EPOModule, 4, [NaNGuard(), MyEvolution()]) == "EPO: 4 agents, evolved by GeneticEvolution"
    assert method(SACModule, 1, []) == "SAC: one agent"
    assert method(CEMRLModule, 11, []) == "CEM-RL: 11 agents"
    coupled = "followers coupled to the master (model.loss.coupling_coefficient)"
    cpo = f"CPO: 4 agents, {coupled}, no evolution (GeneticEvolution in trainer.callbacks adds it)"
    assert method(EPOModule, 4, [NaNGuard()], coupled=True) == cpo
    both = f"EPO + CPO: 4 agents, {coupled}, evolved by GeneticEvolution"
    assert method(EPOModule, 4, [MyEvolution()], coupled=True) == both
    apart = "PBT: 8 agents with networks of their own, selected and mutated by PopulationBasedTraining"
    assert method(PBTModule, 8, [NaNGuard(), PopulationBasedTraining()]) == apart
    beside = "PBT: 8 agents side by side, without exchange (PopulationBasedTraining in trainer.callbacks adds it)"
    assert method(PBTModule, 8, [NaNGuard()]) == beside
    assert method(Own, 2, []) == f"{__name__}.Own: 2 agents"
