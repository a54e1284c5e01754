"""Controllers written by hand, which act through the environment's actions alone and learn nothing.

Shape legend: N environments, D joints = action entries.
"""

from epo_lightning.envs.allegro_kuka.scripted.pilot import Phase
from epo_lightning.envs.allegro_kuka.scripted.script import Script

__all__ = ["Phase", "Script"]
