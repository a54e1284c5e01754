"""Stands in for mjlab 1.6: its names and rules of resetting, with points on a line instead of MuJoCo."""
