"""What a run tells of every one of its agents: read when it is shown, for of many runs few are.

Shape legend: T iterations, K agents.
"""

import re

import numpy as np

from epo_lightning.report.reading import STEPS, Run, Unusable, read_columns
from epo_lightning.report.statistics import Array
from epo_lightning.run.folder import RunFolder

AGENTS, HYPER_PARAMETERS = "agents", "hyper_parameters"


def read_agents(run: Run, kind: str = AGENTS) -> dict[str, Array]:
    """(T, K) of each quantity of `<kind>/<quantity>/<K>` of a run that has them, NaN where it is not known."""
    column = re.compile(rf"{kind}/[^/]+/\d{{1,4}}")
    try:
        columns = read_columns(RunFolder(run.path).metrics, lambda name: column.fullmatch(name) is not None)
    except Unusable:
        return {}  # it was there a moment ago
    at = np.searchsorted(columns.pop(STEPS), run.env_steps)
    found: dict[str, dict[int, Array]] = {}
    for name, values in columns.items():
        _, quantity, number = name.split("/")
        if len(values) > at[-1]:
            found.setdefault(quantity, {})[int(number)] = values[at]
    unknown = np.full(len(at), np.nan)
    agents = max((number for each in found.values() for number in each), default=-1) + 1
    return {
        quantity: np.stack([each.get(number, unknown) for number in range(agents)], axis=1)
        for quantity, each in found.items()
    }


def read_genes(run: Run) -> Array | None:
    """(generations + 1, agents, entries) of `genes.npy`, as far as the lineage tells of them; None where it is not."""
    try:
        genes = np.load(RunFolder(run.path).genes, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if genes.ndim != 3 or not np.issubdtype(genes.dtype, np.floating) or 0 in genes.shape:
        return None
    return np.asarray(genes[: len(run.lineage) + 1], dtype=np.float64)
