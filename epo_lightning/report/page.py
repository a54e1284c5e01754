"""The report as one HTML page that needs nothing else: no network, no script."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from epo_lightning.documents.action_kinds import ACTION_KINDS
from epo_lightning.report import performance
from epo_lightning.report.charts import Plotted, chart, sample
from epo_lightning.report.curves import Axis, Curve, Line, curve_of, env_steps, line_of, time_axis
from epo_lightning.report.grouping import Group, differences
from epo_lightning.report.html import UNKNOWN, as_interval, as_number, as_table, plus_minus
from epo_lightning.report.overall import Overall
from epo_lightning.report.population import Panel, fates, generations, key, panels
from epo_lightning.report.provenance import Provenance
from epo_lightning.report.reading import RETURN, SUCCESSES
from epo_lightning.report.results import Table
from epo_lightning.report.standings import QUANTITIES, Told, over_seeds, remarks, standings
from epo_lightning.report.statistics import Profile
from epo_lightning.report.style import CSS

_EXPLANATION = (
    "<p>A curve is the mean over seeds of the master's return while it explores, where all seeds have one; thin lines"
    " are the seeds, the band is the 95 % bootstrap interval of the mean. It begins where every environment of the"
    " master has finished an episode (charts/episodic_coverage is 1): before, only short episodes have ended. Nothing"
    " is smoothed. Time is what was spent in iterations, without evaluations, saving and start.</p>"
    "<p>The interquartile mean leaves out the lowest and the highest quarter of the runs; a performance profile tells"
    " which share of the runs has more than a given return. They, the probability that one"
    " method beats another, and their stratified bootstrap intervals are those of Agarwal et al. 2021, Deep"
    " reinforcement learning at the edge of the statistical precipice. Of fewer than five seeds a bootstrap interval is"
    " too narrow; Student's is not.</p>"
)


def page(
    tables: Sequence[Table],
    overall: Overall,
    skipped: Sequence[str],
    code: Provenance,
    metrics: Sequence[str] = (),
) -> str:
    """Everything.

    Args:
        tables: Of each task.
        overall: What the tasks say together.
        skipped: Why a run is not in the report, a line each.
        code: By which the runs were made.
        metrics: What else is drawn over env steps.
    """
    groups = [result.group for table in tables for result in table.results]
    runs = _count(sum(len(group.runs) for group in groups), "run")
    told = f"{runs}, {_count(len({group.label for group in groups}), 'method')} on {_count(len(tables), 'task')}"
    names = ", ".join(table.task for table in tables)
    parts = [f"<h1>{escape(names)}</h1><p>{told}.</p>"]
    for title, lines in (("Left out", skipped), ("Made by different code", code.lines if code.differs else ())):
        if lines:
            parts.append(f"<h3>{title}</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>")
    parts += [_task(table, metrics) for table in tables]
    parts.append(_overall(overall))
    made = "" if code.differs else f'<p class="quiet">{escape(code.lines[0])}</p>'
    parts.append(f"<h2>Runs</h2>{_runs(tables)}{made}<h2>How to read it</h2>{_EXPLANATION}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(names)}</title><style>{CSS}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _task(table: Table, metrics: Sequence[str]) -> str:
    groups = [result.group for result in table.results]
    parts = [
        f"<h2>{escape(table.task)}</h2>",
        _curves(groups, metrics),
        "<h3>Final performance</h3>",
        performance.final(table.results),
    ]
    parts += [f'<p class="quiet">{escape(note)}</p>' for note in table.notes]
    parts.append(performance.efficiency(table.results))
    if any(len(result.scores) > 1 for result in table.results) and len(groups) > 1:
        parts.append(_profiles([(result.group.label, result.profile) for result in table.results], "return"))
    if table.improvements:
        parts.append("<h3>How likely a run of the row's method returns more than one of the column's</h3>")
        parts.append(performance.matrix([group.label for group in groups], table.improvements))
    parts += [_population(group) for group in groups]
    if len(groups) > 1:
        parts.append(_differences(groups))
    return "".join(parts)


def _overall(overall: Overall) -> str:
    """What several tasks say together; nothing of a single one."""
    parts = []
    if overall.aggregates:
        count = len(overall.tasks)
        parts.append(f"<p>Of the methods that were run on all {count} tasks. Each run's return is put on the scale")
        parts.append(
            " from the worst of their runs on that task (0) to the best (1), so the numbers change with what is"
        )
        parts.append(" compared.</p>")
        header = ["method", "interquartile mean", "95 % interval"]
        rows = [[escape(one.method), as_number(one.middle), as_interval(one.interval)] for one in overall.aggregates]
        parts.append(as_table(header, rows))
        parts.append(_profiles([(one.method, one.profile) for one in overall.aggregates], "normalised return"))
    if overall.improvements:
        labels = list(dict.fromkeys(one.method for one in overall.improvements))
        parts.append("<h3>How likely a run of the row's method returns more than one of the column's</h3>")
        parts.append("<p>Averaged over the tasks that both have.</p>")
        parts.append(performance.matrix(labels, overall.improvements))
    return f"<h2>All tasks</h2>{''.join(parts)}" if parts else ""


def _profiles(profiles: Sequence[tuple[str, Profile]], name: str) -> str:
    """Performance profiles, and what they are."""
    curves = [
        Plotted(label, Curve([], Line(one.scores, one.shares), one.low, one.high), style)
        for style, (label, one) in enumerate(profiles)
    ]
    left = float(profiles[0][1].scores[0])
    drawn = chart(curves, name, f"share of runs with more {name.split()[-1]}", left)
    panel = _figure(("Performance profile: the higher the curve, the better", drawn, curves))
    return f'<div class="panels">{panel}</div>'


def _curves(groups: Sequence[Group], metrics: Sequence[str]) -> str:
    """Returns over experience and over time; successes where there are any; other metrics over experience."""
    runs = [run for group in groups for run in group.runs]
    axes: list[tuple[str, Axis]] = [("env steps", env_steps), time_axis(runs)]
    made: list[str] = []
    shown: dict[str, Plotted] = {}
    drawn_over = [(RETURN, "return while exploring", axis) for axis in axes]
    if any(run.succeeds for run in runs):
        drawn_over += [(SUCCESSES, "successes an episode", axis) for axis in axes]
    for metric, name, (xlabel, axis) in [*drawn_over, *((metric, metric, axes[0]) for metric in metrics)]:
        curves = [(group, curve_of(group.runs, metric, axis)) for group in groups]
        drawn = [Plotted(g.label, curve, style) for style, (g, curve) in enumerate(curves) if curve is not None]
        if drawn:
            shown |= {plotted.label: plotted for plotted in drawn}
            title = f"{name[0].upper()}{name[1:]}" if name != metric else name
            made.append(_figure((f"{title} over {xlabel}", chart(drawn, xlabel, name), [])))
    lines = "".join(f'<p class="quiet">{escape(line)}</p>' for line in _lacking(groups, metrics))
    return f'{_legend(shown.values())}<div class="panels">{"".join(made)}</div>{lines}'


def _lacking(groups: Sequence[Group], metrics: Sequence[str]) -> list[str]:
    """Who does not have a metric that was asked for."""
    found = []
    for metric in metrics:
        without = [(group, [run for run in group.runs if line_of(run, metric) is None]) for group in groups]
        told = [f"{len(runs)} of {len(group.runs)} runs of {group.label}" for group, runs in without if runs]
        if told:
            found.append(f"Without a value in {metric}: {'; '.join(told)}.")
    return found


def _population(group: Group) -> str:
    made, evaluated = panels(group), _standings(group)
    if not made and not evaluated:
        return ""
    words = " ".join(filter(None, (generations(group), fates(group), key(group)))) if made else ""
    told = f"<p>{words}</p>" if words else ""
    pictures = f'<div class="panels">{"".join(map(_figure, made))}</div>' if made else ""
    return f"<h3>{escape(group.label)}</h3>{told}{evaluated}{pictures}"


def _standings(group: Group) -> str:
    """Master and best follower of each run that was evaluated so, and over seeds."""
    found = standings(group)
    if not found:
        return ""
    own, other = ("master", "follower") if group.has_master else ("champion", "other agent")
    shown = [name for name in QUANTITIES if name == "return" or any(one.has(name) for one in found)]
    columns = {"champion": own, **({"best": f"best {other}"} if any(one.best for one in found) else {})}
    header = ["seed", "actions", *(f"{whom}, {name} ± s.e." for name in shown for whom in columns.values())]
    rows = []
    for kind, words in ACTION_KINDS.items():
        several = [one for one in found if one.kind == kind]
        for one in several:
            cells = [_told(getattr(one, whom), name, whom == "best") for name in shown for whom in columns]
            rows.append([escape(str(one.run.seed)), words, *cells])
        if len(several) > 1:
            means = [over_seeds(several, whom, name) for name in shown for whom in columns]
            rows.append(["all", words, *(UNKNOWN if value is None else plus_minus(value) for value in means)])
    notes = " ".join(escape(note) for note in remarks(found, group.runs, own, other))
    return f'{as_table(header, rows, words=(1,))}<p class="quiet">{notes}</p>'


def _told(told: Told | None, name: str, is_one_of_many: bool) -> str:
    """What an agent did, and which it is where that has to be said."""
    if told is None or name not in told.quantities:
        return UNKNOWN
    number = f" <small>({told.agent})</small>" if is_one_of_many and name == "return" else ""
    return f"{plus_minus(told.quantities[name])}{number}"


def _differences(groups: Sequence[Group]) -> str:
    rows = [
        [escape(name), *("" if value is None else escape(str(value)) for value in values)]
        for name, values in differences(groups).items()
    ]
    table = as_table(["setting", *(escape(group.label) for group in groups)], rows)
    return f"<details><summary>Settings in which the methods differ ({len(rows)})</summary>{table}</details>"


def _runs(tables: Sequence[Table]) -> str:
    rows = [
        [
            escape(table.task),
            escape(result.group.label),
            escape(str(run.seed)),
            as_number(score),
            f"{int(run.env_steps[-1]):,}",
            UNKNOWN if math.isnan(run.seconds[-1]) else f"{run.seconds[-1]:,.0f} s",
            escape(str(run.path)),
        ]
        for table in tables
        for result in table.results
        for run, score in zip(result.group.runs, result.scores.tolist(), strict=True)
    ]
    return as_table(["task", "method", "seed", "return", "env steps", "in iterations", "folder"], rows, words=(1, 6))


def _figure(panel: Panel) -> str:
    title, picture, legend = panel
    return f"<figure><figcaption>{escape(title)}</figcaption>{_legend(legend)}{picture}</figure>"


def _legend(curves: Iterable[Plotted]) -> str:
    items = "".join(f"<li>{sample(plotted)}{escape(plotted.label)}</li>" for plotted in curves)
    return f'<ul class="legend">{items}</ul>' if items else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
