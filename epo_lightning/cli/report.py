"""`report`: runs side by side, as a page and as numbers. It needs no configuration, and loads no torch."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from epo_lightning.documents.nearest import hint
from epo_lightning.limits import Mistake
from epo_lightning.run.folder import writing


def main(arguments: Sequence[str]) -> int:
    """The command line.

    Args:
        arguments: What follows `report`.

    Returns:
        0.

    Raises:
        Mistake: When an argument means nothing, or no run can be used.
    """
    parser = argparse.ArgumentParser(
        "epo-lightning report",
        description="Compare runs: a page with curves, tables and populations, and its numbers as CSV and JSON.",
        exit_on_error=False,
    )
    parser.add_argument("runs", nargs="*", type=_path, metavar="RUN", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=_path, default=Path("report"), help="folder of the report (default: report)")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="draw this column of metrics.csv, too (repeatable)",
    )
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        near = hint(unknown[0], ["--out", "--metric", "--help"])
        raise Mistake(f"report: {unknown[0]} means nothing here{near}; it takes RUN ..., --metric NAME, --out FOLDER")
    if not parsed.runs:
        raise Mistake("report: name run folders, or folders that hold some, such as runs/quickstart")
    write(parsed.runs, parsed.out, list(dict.fromkeys(parsed.metric)))
    return 0


def _path(text: str) -> Path:
    return Path(text).expanduser()


def write(places: Sequence[Path], out: Path, metrics: Sequence[str] = ()) -> None:
    """Read the runs, and write `report.html`, `.csv`, `.json`, with matplotlib `.png`, and `runs.csv` into a folder.

    Args:
        places: Run folders, or folders that hold some.
        out: The folder.
        metrics: Columns of `metrics.csv` to draw besides returns and successes.

    Raises:
        Mistake: When no run can be used, none has such a metric, or the folder cannot be written.
    """
    from epo_lightning.report import files, plot
    from epo_lightning.report.grouping import group
    from epo_lightning.report.overall import overall
    from epo_lightning.report.page import page
    from epo_lightning.report.provenance import provenance
    from epo_lightning.report.reading import Unusable, columns, find_runs, idle_methods, read_run
    from epo_lightning.report.results import tables

    runs, skipped = [], []
    folders = find_runs(places)
    for method in idle_methods(places, folders):
        skipped.append(f"{method}: no run of this method has begun")
        print(f"notice: left out: {skipped[-1]}", file=sys.stderr)
    for folder in folders:
        try:
            runs.append(read_run(folder, metrics))
        except Unusable as reason:
            skipped.append(str(reason))
            print(f"notice: left out: {reason}", file=sys.stderr)
    if not runs:
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise Mistake(f"report: no run can be used: {skipped[0]}{more}")
    for name in metrics:
        if not any(name in run.metrics for run in runs):
            known = dict.fromkeys(column for run in runs for column in columns(run.path))
            near = hint(name, known) or "; the first line of a run's metrics.csv names those there are"
            raise Mistake(f"report: --metric {name}: no run has it{near}")
    made = tables(group(runs))
    pairs = overall(made)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    code = provenance(made)
    text = page(made, pairs, skipped, code, metrics)
    files.replace(out / "report.html", lambda file: file.write(text))
    files.replace(out / "report.csv", lambda file: files.write_csv(file, made))
    files.replace(out / "report.json", lambda file: files.write_json(file, made, pairs, skipped, code))
    files.replace(out / "runs.csv", lambda file: files.write_runs(file, made))
    if code.differs:
        print(f"notice: the runs were made by different code: {out / 'report.html'} says which", file=sys.stderr)
    drawn = plot.draw(out / "report.png", made, metrics)
    if not drawn:
        print(f"notice: {out / 'report.png'} needs matplotlib: pip install 'epo-lightning[report]'", file=sys.stderr)
    endings = "html, .csv, .json and .png" if drawn else "html, .csv and .json"
    methods = len({result.group.label for table in made for result in table.results})
    print(f"{len(runs)} run(s) of {methods} method(s): {out}/report.{endings}")
