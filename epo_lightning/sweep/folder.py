"""The folder of a study: its configurations stay what they were when its runs began, and other code is told."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from epo_lightning.limits import Mistake
from epo_lightning.run.code import Code, names_of, sessions_of
from epo_lightning.run.folder import RunFolder, part_of, writing
from epo_lightning.run.overrides import UNSET, Change, find_changes
from epo_lightning.sweep.space import Space
from epo_lightning.sweep.study import ALL_AGENTS

MAX_EPOCHS = "trainer.max_epochs"
_HARMLESS = (
    *("seed_everything", "checkpoint.", "data.eval_", "trainer.logger", "trainer.enable_", "trainer.max_time"),
    "trainer.profiler",
)
"""What may change while a study goes on."""


def iterations_of(where: str, config: dict[str, Any]) -> int | None:
    """How many iterations a run of this configuration makes; None where only time ends it.

    Raises:
        Mistake: When nothing ends it, or nothing begins it.
    """
    trainer = config.get("trainer") or {}
    wanted = trainer.get("max_epochs")
    if wanted in (None, -1):
        if trainer.get("max_time") is None:
            raise Mistake(f"{where}: {MAX_EPOCHS} is without an end: give a number of iterations")
        return None
    if wanted < 1:
        raise Mistake(f"{where}: {MAX_EPOCHS} must be at least 1, for every run trains; got {wanted}")
    return int(wanted)


def evaluation_of(evaluate: str | None, config: dict[str, Any]) -> str | None:
    """What follows a run of this configuration: of a single policy there are no agents to tell of."""
    agents = (config.get("model") or {}).get("num_agents", 1)
    return evaluate.replace(f" {ALL_AGENTS}", "") if evaluate and agents == 1 else evaluate


def keep_config(where: str, path: Path, text: str, runs: Sequence[RunFolder], *, may_grow: bool = True) -> None:
    """Write the configuration of a method, once and for all where a run has begun with it.

    Args:
        where: Who asks, for the message.
        path: Its file.
        text: The resolved configuration.
        runs: Its runs.
        may_grow: Whether more iterations than before are welcome: the runs go on then.

    Raises:
        Mistake: When runs have begun with another one.
    """
    begun = [run for run in runs if run.holds_run()]
    former = path if path.exists() or not begun else begun[0].config
    if begun and former.exists():
        changes = _changes(yaml.safe_load(former.read_text(encoding="utf-8")), yaml.safe_load(text))
        changes = [change for change in changes if not (may_grow and _is_longer(change))]
        if changes:
            more = f" (and {len(changes) - 1} more)" if len(changes) > 1 else ""
            raise Mistake(
                f"{where}: {changes[0]}{more}, but {begun[0].path} has begun with the former: undo the change, give"
                f" the method another name, choose another --out, or remove {path.parent}"
            )
    write(path, text)


def keep_space(where: str, out: Path, space: Space, seeds: Sequence[int], *, has_begun: bool) -> None:
    """Write what the trials of a search have in common, once and for all where one has begun.

    Args:
        where: Who asks, for the message.
        out: The study's folder.
        space: What is searched for.
        seeds: Of every trial.
        has_begun: Whether there is a run.

    Raises:
        Mistake: When trials have begun with something else.
    """
    path, text = out / "search.json", json.dumps({**space.identity(), "seeds": [*seeds]}, indent=1)
    if has_begun and path.exists():
        old, new = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        if changed := [key for key in new if old.get(key) != new[key]]:
            raise Mistake(
                f"{where}: {changed[0]} of the search changed, but trials in {out} have begun with the former: undo the"
                " change, or choose another --out"
            )
    write(path, f"{text}\n")


def other_code(runs: Sequence[RunFolder], here: Code) -> str | None:
    """A line about the runs that were made, in whole or in part, by other code than what runs here; None without any.

    Args:
        runs: Those of a study.
        here: The code that the others will be made by.
    """
    here = here._replace(own=None)
    made = {run: [code._replace(own=None) for code in sessions_of(run.record)] for run in runs}
    others = {run: next(code for code in codes if code != here) for run, codes in made.items() if {*codes} - {here}}
    if not others:
        return None
    names = names_of([*others.values(), here])
    by = dict.fromkeys(names[code] for code in others.values())
    first = next(iter(others)).path
    return (
        f"notice: {len(others)} run(s) here, such as {first}, were made by other code ({'; '.join(by)}); what is done"
        f" now is by {names[here]}: the report tells them apart"
    )


def write(path: Path, text: str) -> None:
    """Replace a file as a whole, with its folder."""
    temporary = part_of(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """What matters. A key that is new came with a newer version of this package."""
    changes = find_changes(old, new)
    return [change for change in changes if not change.key.startswith(_HARMLESS) and change.old != UNSET]


def _is_longer(change: Change) -> bool:
    old, new = change.old, change.new
    return change.key == MAX_EPOCHS and isinstance(old, int) and (new is None or (isinstance(new, int) and new >= old))
