"""How a copy says, also from a process of its own, that its task breaks Gymnasium's interface."""

FAULT = "epo_lightning_fault"
"""Entry of `info` with what is wrong, as a text."""
