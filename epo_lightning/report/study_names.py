"""What the file of a study calls the task and the method of a run: `study.json`, beside the runs of a method."""

import json
from pathlib import Path
from typing import NamedTuple

FILE = "study.json"
_LONGEST = 250


class StudyNames(NamedTuple):
    """Names; empty where no study, or a study without tasks, gives one."""

    task: str = ""
    method: str = ""


def as_text(names: StudyNames) -> str:
    """What stands in the file."""
    return f"{json.dumps(names._asdict())}\n"


def read_names(run: Path) -> StudyNames:
    """Those of a run folder; empty where it is no study's."""
    try:
        content = json.loads((run.resolve().parent / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return StudyNames()
    told = [content.get(name) if isinstance(content, dict) else None for name in StudyNames._fields]
    return StudyNames(
        *(one if isinstance(one, str) and one.isprintable() and len(one) < _LONGEST else "" for one in told)
    )
