"""Which code made the runs of a page: one line where it is the same everywhere, else one for each method."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from epo_lightning.report.reading import Run
from epo_lightning.report.results import LOGGED, Table
from epo_lightning.run.code import Code, names_of

_UNKNOWN = "code that no run.json tells of"
History = tuple[tuple[Code, ...], Code | None]
"""Of a run: its sessions, and who evaluated it where the table shows that and it is another one."""


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
    told = {run.path: _history(run, table.source) for table, run in _runs(tables)}
    codes = [code for sessions, evaluation in told.values() for code in (*sessions, evaluation) if code is not None]
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


def _runs(tables: Sequence[Table]) -> Iterator[tuple[Table, Run]]:
    for table in tables:
        for result in table.results:
            for run in result.group.runs:
                yield table, run


def _history(run: Run, source: str) -> History:
    evaluation = run.evaluations[source].code if source != LOGGED else Code()
    known = [code._replace(own=None) for code in run.code[-1:]]
    return run.code, None if evaluation == Code() or evaluation in known else evaluation


def _words(history: History, names: dict[Code, str]) -> str:
    sessions, evaluation = history
    made = ", continued by ".join(names[code] for code in sessions) or _UNKNOWN
    return made if evaluation is None else f"{made}, evaluated by {names[evaluation]}"
