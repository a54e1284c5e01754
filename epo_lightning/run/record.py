"""`run.json`: what a run is, for people and programs: configuration, versions, commit, machine, command line, lineage.

A run that goes on extends it: what was true before moves to `earlier`.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epo_lightning.limits import Mistake
from epo_lightning.run.folder import part_of, writing
from epo_lightning.run.logger_ids import loggers_of

LAYOUT = 1
_OF_THE_RUN = ("layout", "config", "lineage", "loggers", "earlier")
"""Told once; everything else is told of every time that the run was begun or continued."""


def read_record(path: Path) -> dict[str, Any]:
    """What stands in `run.json`; nothing where there is none.

    Raises:
        Mistake: When it is not one: it was changed by hand.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise Mistake(f"{path} cannot be read ({error}): mend it, or move it away") from error
    if not isinstance(content, dict) or not isinstance(content.get("earlier", []), list):
        raise Mistake(f"{path} is not what a run writes: mend it, or move it away")
    return content


def beginning_of(path: Path) -> str | None:
    """What the policy is called with whose weights the run of a `run.json` began; None without one."""
    try:
        record = read_record(path)
    except Mistake:
        return None
    for told in (*record.get("earlier", []), record):
        policy = told.get("begins_with") if isinstance(told, dict) else None
        if isinstance(policy, dict) and isinstance(name := policy.get("policy"), str):
            return name
    return None


def write_record(
    path: Path,
    facts: Mapping[str, Any],
    *,
    config: Mapping[str, Any],
    lineage: Sequence[Mapping[str, Any]],
    loggers: Mapping[str, str],
) -> None:
    """Replace `run.json` in one step.

    Args:
        path: The file.
        facts: Of this time (see `facts.facts`).
        config: The resolved configuration without its secrets.
        lineage: See `history.Ancestor`.
        loggers: Under which id each logger knows the run.
    """
    before = read_record(path)
    earlier = list(before.get("earlier", []))
    if "started" in before:
        earlier.append({name: value for name, value in before.items() if name not in _OF_THE_RUN})
    record = {
        "layout": LAYOUT,
        **facts,
        "lineage": list(lineage),
        "loggers": {**loggers_of(before), **loggers},
        "config": config,
        "earlier": earlier,
    }
    temporary = part_of(path)
    with writing(path):
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(record, file, indent=2, default=str, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
