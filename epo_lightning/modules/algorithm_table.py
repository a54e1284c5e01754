"""The algorithms by name; light to import."""

ALGORITHMS: dict[str, str] = {
    "cem_rl": "epo_lightning.modules.cem_rl.CEMRLModule",
    "epo": "epo_lightning.modules.epo.EPOModule",
    "pbt": "epo_lightning.modules.pbt.PBTModule",
    "pql": "epo_lightning.modules.pql.PQLModule",
    "sac": "epo_lightning.modules.sac.SACModule",
}
"""The class of each algorithm, by the name that `algorithm` has in configurations and checkpoints."""
DEFAULT_ALGORITHM = "epo"


def admit(name: str) -> None:
    """Take an algorithm of the user's own into the table, by its class path.

    It names code that will run: only who has consented to that may call this, and never with what a file of somebody
    else says.
    """
    if "." in name:
        ALGORITHMS.setdefault(name, name)


def algorithm_name(kind: type) -> str:
    """What configurations and checkpoints call an algorithm: its name in the table, else its class path."""
    path = f"{kind.__module__}.{kind.__qualname__}"
    return next((name for name, known in ALGORITHMS.items() if known == path), path)
