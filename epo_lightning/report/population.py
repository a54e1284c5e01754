"""What the runs of a population tell of it: its best, its spread, the generations, what becomes of hyper-parameters."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from epo_lightning.report.agents import HYPER_PARAMETERS, read_agents, read_genes
from epo_lightning.report.charts import Plotted, agents_chart, chart
from epo_lightning.report.curves import Line, curve_of, join, thinned
from epo_lightning.report.fates import told_descent, told_goals
from epo_lightning.report.generations import family_tree, heat_map
from epo_lightning.report.genes import gene_map, plane
from epo_lightning.report.grouping import Group
from epo_lightning.report.reading import BEST, GRADIENT_PARENTS, OF_KINDS, OFF_POLICY, RETURN, SIGMA, SPREAD, Run
from epo_lightning.report.statistics import Array
from epo_lightning.report.svg import few

_STEPS = "env steps"
_COLUMNS, _TREE = 80, 24
"""Most generations of a heat map, taken evenly, and of a family tree, the last ones."""

_WIDE = 3.0
"""Hyper-parameters whose largest value is so many times the smallest are drawn on a logarithmic scale."""
_POINTS, _FEW = 150, 20
"""Most points of an agent's line, where there are few agents; of more half as many."""
_AGENTS = (
    ("return", "Return of every agent", "return while exploring", False),
    ("learning_rate", "Learning rate of every agent", "learning rate", True),
    ("successes", "Successes of every agent", "successes an episode", False),
    ("kl_to_master", "Distance of every follower from the master", "KL to the master, nats", True),
    ("ess", "Weight of every follower's samples", "effective sample size, share", False),
    ("entropy", "Entropy of every agent's actions", "nats", False),
    ("coverage", "What every agent sees in an iteration", "share of the cells of a plane", False),
)
"""Quantities of `agents/*`: title, name of the axis, whether it is logarithmic."""

Panel = tuple[str, str, list[Plotted]]
"""A title, a picture, and what its legend names."""


def panels(group: Group) -> list[Panel]:
    """Of a population of more than one agent, those that its runs have the numbers for."""
    if group.settings.get("model.num_agents", 1) == 1:
        return []
    spread, own = _curves(group, {"spread": SPREAD}), "master" if group.has_master else "champion"
    plotted = [
        (
            f"{own.capitalize()} and best agent",
            "return while exploring",
            _curves(group, {own: RETURN, "best agent": BEST}),
        ),
        ("Spread of the followers' fitness", "max f - min f", spread and [*spread, *_trigger(group)]),
        (
            "Weight of the followers' samples",
            "effective sample size, share",
            _curves(group, {"off-policy samples": OFF_POLICY}),
        ),
        ("Fitness by kind of member", "fitness of a generation", _curves(group, OF_KINDS)),
        ("Spread of the distribution", "root of the mean variance", _curves(group, {"sigma": SIGMA})),
        (
            "Parents that learnt by gradient",
            "share of a generation's parents",
            _curves(group, {"learnt by gradient": GRADIENT_PARENTS}),
        ),
    ]
    made: list[Panel] = [(title, chart(curves, _STEPS, ylabel), curves) for title, ylabel, curves in plotted if curves]
    shown = example(group)
    of = f", seed {shown.seed}" if len(group.runs) > 1 else ""
    made += [*_of_agents(shown, of, group.has_master), *_of_hyper_parameters(shown, of, group.has_master)]
    return [*made, *_of_generations(shown, group.has_master), *_of_genes(shown)] if shown.lineage else made


def example(group: Group) -> Run:
    """The run whose agents are shown one by one: the first that evolved, else the first."""
    return next((run for run in group.runs if run.lineage), group.runs[0])


def _of_agents(run: Run, of: str, has_master: bool) -> list[Panel]:
    """Every agent's own line, of a run that tells of them."""
    told = read_agents(run)
    made: list[Panel] = []
    for quantity, title, ylabel, log in _AGENTS:
        values = told.get(quantity)
        if values is None or np.isnan(values).all() or (quantity == "successes" and not (values > 0).any()):
            continue
        drawn = _lines(run, values, ylabel, log=log, has_master=has_master)
        made += [(f"{title}{of}", drawn, [])] if drawn else []
    return made


def _of_hyper_parameters(run: Run, of: str, has_master: bool) -> list[Panel]:
    """What became of each hyper-parameter of each agent, of a run that changes them."""
    made: list[Panel] = []
    for name, values in read_agents(run, HYPER_PARAMETERS).items():
        known = values[~np.isnan(values)]
        if not len(known):
            continue
        shown, ylabel = values, name.replace("_", " ")
        if name == "gamma":  # of which only the distance from 1 can be seen, and changes
            shown, ylabel, known = 1 - values, "1 - gamma", 1 - known
        log = bool(known.min() > 0 and known.max() > _WIDE * known.min())
        drawn = _lines(run, shown, ylabel, log=log, has_master=has_master)
        made += [(f"Hyper-parameter {name} of every agent{of}", drawn, [])] if drawn else []
    return made


def _lines(run: Run, values: Array, ylabel: str, *, log: bool, has_master: bool) -> str:
    """A line of each column of `values` (T, K) that is known somewhere; empty where none is."""
    agents = values.shape[1]
    lines = {number: _known(run.env_steps, values[:, number], agents) for number in range(agents)}
    lines = {number: line for number, line in lines.items() if len(line.x)}
    return agents_chart(lines, agents, _STEPS, ylabel, log=log, has_master=has_master) if lines else ""


def _known(x: Array, y: Array, agents: int) -> Line:
    known = ~np.isnan(y)
    return thinned(Line(x[known], y[known]), _POINTS if agents <= _FEW else _POINTS // 2)


def generations(group: Group) -> str:
    """How often the population evolved, in words; empty where it cannot."""
    if not group.evolves and not any(run.lineage for run in group.runs):
        return ""
    counts = [str(len(run.lineage)) for run in group.runs]
    return f"Generations by seed: {', '.join(counts)}."


def fates(group: Group) -> str:
    """What became of the agents of the run that is shown, in words."""
    run = example(group)
    successes, told = read_agents(run).get("successes"), []
    if group.has_master and run.lineage:
        if not any(record["children"] for record in run.lineage):
            return ""  # drawn from a distribution: nobody lives longer than a generation
        agents = len(run.lineage[-1]["fitness"])
        records = [record for record in run.lineage if len(record["fitness"]) == agents]
        told.append(told_descent(records, agents))
    if successes is not None and successes.shape[1] > 1:
        told.append(told_goals(run.env_steps, successes, group.has_master))
    return f"Seed {run.seed}: {' '.join(filter(None, told))}" if any(told) else ""


def key(group: Group) -> str:
    """Which agent has which line, in words; empty of a single agent."""
    agents = group.settings.get("model.num_agents", 1)
    if not isinstance(agents, int) or agents < 2:
        return ""
    if not group.has_master:
        return f"Single agents go from dark blue (0) to bright ({agents - 1})."
    return f"Of single agents the master is black; followers go from dark blue (1) to bright ({agents - 1})."


def _curves(group: Group, metrics: dict[str, str]) -> list[Plotted]:
    curves = {label: curve_of(group.runs, metric) for label, metric in metrics.items()}
    return [Plotted(label, curve, style) for style, (label, curve) in enumerate(curves.items()) if curve is not None]


def _trigger(group: Group) -> list[Plotted]:
    """What the spread had to exceed at each generation: threshold * |median f| over the followers."""
    threshold = group.settings.get("GeneticEvolution.spread_threshold")
    lines = [trigger(run, float(threshold)) for run in group.runs if run.lineage] if threshold is not None else []
    return [Plotted("trigger, at each generation", join(lines)._replace(mean=None), 1, dots=True)] if lines else []


def trigger(run: Run, threshold: float) -> Line:
    """Of each generation of a run, over env steps."""
    steps = [float(record["env_steps"]) for record in run.lineage]
    levels = [threshold * abs(median(record["fitness"][1:])) for record in run.lineage]
    return Line(np.array(steps), np.array(levels))


def _of_generations(run: Run, has_master: bool) -> list[Panel]:
    agents = len(run.lineage[-1]["fitness"])
    records = [record for record in run.lineage if len(record["fitness"]) == agents]
    numbers = [str(record.get("generation", place + 1)) for place, record in enumerate(records)]
    shown = few(len(records), _COLUMNS)
    fitness = np.array([records[place]["fitness"] for place in shown], dtype=np.float64).T
    elites = [records[place]["elites"] for place in shown]
    low, high = np.nanmin(fitness), np.nanmax(fitness)
    of = f"seed {run.seed}"
    first = max(0, len(records) - _TREE)
    fittest = "the elite ancestors of the last generation's fittest follower"
    ancestors = fittest if has_master else "those whose weights the best agent of the last generation has"
    made: list[Panel] = [
        (
            f"Fitness by agent, {of}: {low:.4g} (dark) to {high:.4g} (bright); dots are elites",
            heat_map(fitness, [numbers[place] for place in shown], elites, has_master=has_master),
            [],
        )
    ]
    if not any(record["children"] for record in records):  # drawn from a distribution: nobody has two parents
        return made
    return [
        *made,
        (
            f"Parents and children, {of}; thick: {ancestors}",
            family_tree(
                agents,
                [*numbers[first:], "now"],
                links(records[first:], agents, has_master=has_master),
                has_master=has_master,
            ),
            [],
        ),
    ]


def _of_genes(run: Run) -> list[Panel]:
    """Maps of the genes, of a run that has kept them."""
    genes = read_genes(run)
    seen = None if genes is None else plane(genes)
    if seen is None:
        return []
    first, second = (f"{100 * share:.0f} %" for share in seen.shares.tolist())
    title = f"Genes, seed {run.seed}: their first two principal components, {first} and {second} of the variance"
    return [(title, gene_map(seen, run.lineage), [])]


def links(
    records: Sequence[dict[str, Any]], agents: int, *, has_master: bool = True
) -> list[tuple[int, int, int, str]]:
    """Of a family tree: (column, row, row in the next column, kind).

    Column g is the population whose fitness generation g knows. Who is replaced then comes from two parents; everybody
    else stays. `line` leads to the fittest of the last generation, who is no master, back through elite parents.
    """
    found, before = [], []
    for column, record in enumerate(records):
        parents = dict(zip(record["children"], record["parents"], strict=True))
        before.append({child: elite for child, (elite, _) in parents.items()})
        found += [(column, agent, agent, "stays") for agent in range(agents) if agent not in parents]
        found += [(column, one, child, "child") for child, pair in parents.items() for one in pair]
    fitness = np.nan_to_num(np.array(records[-1]["fitness"], dtype=np.float64), nan=-np.inf)
    follower = int(fitness[int(has_master) :].argmax()) + int(has_master)
    if follower not in before[-1]:
        found.append((len(records) - 1, follower, follower, "line"))  # an elite stays
    for column in range(len(records) - 2, -1, -1):
        origin = before[column].get(follower, follower)
        found.append((column, origin, follower, "line"))
        follower = origin
    return found
