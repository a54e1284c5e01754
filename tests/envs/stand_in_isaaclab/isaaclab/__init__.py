"""Stands in for Isaac Lab, version 2 or 3: its names, order of starting and rules of resetting; points on a line.

Environment variables:
    STAND_IN_ISAACLAB: 2 or 3 (the default).
    STAND_IN_ISAACSIM: empty where Isaac Sim is missing.
"""

import os

VERSION = int(os.environ.get("STAND_IN_ISAACLAB", "3"))
ISAACSIM = bool(os.environ.get("STAND_IN_ISAACSIM", "1"))
__version__ = f"{VERSION}.0.0"

if VERSION == 2 and not ISAACSIM:
    raise ModuleNotFoundError("No module named 'isaacsim'", name="isaacsim")
