"""Controllers written by hand, which act through the environment's actions alone and learn nothing.

Shape legend: N environments, D joints = action entries.

The constants at the top of the files were tuned by hand until the grasps held; the robot's own numbers are in `robot`.
"""

from epo_lightning.envs.allegro_kuka.scripted.pilot import Phase
from epo_lightning.envs.allegro_kuka.scripted.script import Script

__all__ = ["Phase", "Script"]
