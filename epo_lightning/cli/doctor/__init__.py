"""`doctor`: what of this machine the package can use, and what to do about each part that is missing.

It needs no configuration. `machine` checks this interpreter, `interpreters` those of simulators.
"""

import argparse
from collections.abc import Callable, Sequence

from epo_lightning.cli.doctor.finding import Finding, State, find_gpus
from epo_lightning.cli.doctor.interpreters import examine_interpreter
from epo_lightning.cli.doctor.machine import (
    check_drawing,
    check_lightning,
    check_mujoco,
    check_package,
    check_python,
    check_torch,
    check_video,
    check_wandb,
    check_warp,
)
from epo_lightning.documents.nearest import hint
from epo_lightning.limits import Mistake

_MARKS: dict[State, str] = {"ok": "ok", "missing": "--", "broken": "!!"}
_WIDEST = 24


def examine(pythons: Sequence[str] = ()) -> list[Finding]:
    """Everything, in the order of the report.

    Args:
        pythons: Interpreters of simulators to check.
    """
    gpus = find_gpus()
    checks: list[Callable[[], Finding]] = [
        check_python,
        lambda: check_torch(gpus),
        check_lightning,
        check_mujoco,
        lambda: check_warp(gpus),
        lambda: check_package("gymnasium", "gymnasium", "any task of Gymnasium"),
        check_wandb,
        lambda: check_package("tensorboard", "tensorboard", "trainer.logger TensorBoardLogger"),
        check_drawing,
        check_video,
        lambda: check_package("viser", "viewer", "view"),
    ]
    findings = [check() for check in checks]
    for python in pythons:
        findings += examine_interpreter(python, gpus)
    return findings


def report(findings: Sequence[Finding]) -> str:
    """The findings as lines of a terminal."""
    width = min(_WIDEST, max(len(finding.name) for finding in findings))
    lines = []
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        lines.append(f"[{_MARKS[finding.state]}] {finding.name:{width}}  {finding.detail}{remedy}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line.

    Args:
        arguments: What follows `doctor`.

    Returns:
        0, or 1 when something that every training needs does not work.

    Raises:
        Mistake: When an argument is unknown.
    """
    parser = argparse.ArgumentParser(
        "epo-lightning doctor", description="What of this machine the package can use.", exit_on_error=False
    )
    parser.add_argument(
        "--python",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="interpreters of simulators, as under data.env.init_args.python: check these, too",
    )
    parsed, unknown = parser.parse_known_args(arguments)
    if unknown:
        near = hint(unknown[0], ["--python", "--help"])
        raise Mistake(f"doctor: {unknown[0]} means nothing here{near}; it takes --python PATH [PATH ...]")
    findings = examine(parsed.python)
    print(report(findings))
    return int(any(finding.needed and finding.state != "ok" for finding in findings))
