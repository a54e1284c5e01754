"""Which code made the runs of a page: one line where it is the same everywhere, else one for each method."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from epo_lightning.report.evaluation import Evaluation
from epo_lightning.report.reading import Run
from epo_lightning.report.results import Result, Table
from epo_lightning.report.standings import standings
from epo_lightning.run.code import Code, names_of

_UNKNOWN = "code that no run.json tells of"
History = tuple[tuple[Code, ...], tuple[Code, ...]]
"""Of a run: its sessions, and what evaluated it where a table shows that and it is another one."""


class Provenance(NamedTuple):
    """What a reader must know of the code.

    Attributes:
        lines: One where all runs are of the same code.
        differs: Whether runs, or the sessions of one, are of different code.
    """

    lines: list[str]
    differs: bool


def provenance(tables: Sequence[Table]) -> Provenance:
    """Of all runs of a page."""
    told = {
        run.path: _history(run, shown)
        for table in tables
        for result in table.results
        for run, shown in _shown(table, result)
    }
    codes = [code for sessions, evaluations in told.values() for code in (*sessions, *evaluations)]
    names = names_of(codes)
    if len({*told.values()}) == 1 and len(next(iter(told.values()))[0]) <= 1:
        history = next(iter(told.values()))
        dirty = any(code.dirty for code in codes)
        alone = " What was changed is in no commit, so nobody else can get this code." if dirty else ""
        return Provenance([f"All runs were made by {_words(history, names)}.{alone}"], differs=False)
    lines = []
    for table in tables:
        for result in table.results:
            by: dict[str, list[str]] = defaultdict(list)
            for run in result.group.runs:
                by[_words(told[run.path], names)].append(str(run.seed))
            parts = [
                f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(seeds)} by {who}" for who, seeds in by.items()
            ]
            where = f"{table.task}, " if len(tables) > 1 else ""
            lines.append(f"{where}{result.group.label}: {'; '.join(parts)}.")
    sources = {(code.sources, code.libraries, code.own) for code in codes}
    if len(sources) == 1 and codes[0].sources is not None and all(sessions for sessions, _ in told.values()):
        lines.append("The modules of the package are the same in all of them; what differs are other files beside it.")
    return Provenance(lines, differs=True)


def _shown(table: Table, result: Result) -> Iterator[tuple[Run, list[Evaluation]]]:
    """Each run of a method with the evaluations whose numbers the page has."""
    agents = {one.run.path: one.source for one in standings(result.group)}
    for run in result.group.runs:
        found = (run.evaluations.get(table.source), agents.get(run.path))
        yield run, [one for one in found if one is not None]


def _history(run: Run, shown: Sequence[Evaluation]) -> History:
    known = [Code(), *(code._replace(own=None) for code in run.code[-1:])]
    return run.code, tuple(dict.fromkeys(one.code for one in shown if one.code not in known))


def _words(history: History, names: dict[Code, str]) -> str:
    sessions, evaluations = history
    made = ", continued by ".join(names[code] for code in sessions) or _UNKNOWN
    return ", evaluated by ".join((made, *(names[code] for code in evaluations)))
