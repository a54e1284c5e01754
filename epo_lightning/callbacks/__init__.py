"""Callbacks that make the algorithm: none is PPO or SAPG, `GeneticEvolution` EPO, `PopulationBasedTraining` PBT."""

if __name__ != "epo_lightning.callbacks":
    raise ImportError("this folder is the package epo_lightning.callbacks: import it under that name")

from epo_lightning.callbacks.diagnostics import PopulationDiagnostics
from epo_lightning.callbacks.elites import ElitePreservation
from epo_lightning.callbacks.evolution import GeneticEvolution
from epo_lightning.callbacks.nan_guard import NaNGuard
from epo_lightning.callbacks.population_based_training import PopulationBasedTraining
from epo_lightning.callbacks.profiling import NetworkScaleProfiler
from epo_lightning.callbacks.video import VideoRecorder
from epo_lightning.modules.base import PopulationCallback

__all__ = [
    "ElitePreservation",
    "GeneticEvolution",
    "NaNGuard",
    "NetworkScaleProfiler",
    "PopulationBasedTraining",
    "PopulationCallback",
    "PopulationDiagnostics",
    "VideoRecorder",
]
