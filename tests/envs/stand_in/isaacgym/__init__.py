"""Stands in for Isaac Gym: refuses to come after torch, and prints where no Python can catch it."""

import os
import sys

if "torch" in sys.modules:
    raise ImportError("stand-in: torch was imported before isaacgym")

__version__ = "1.0.stand-in"
os.write(1, b"stand-in: the gym says hello on stdout\n")
os.write(2, b"stand-in: and on stderr\n")
