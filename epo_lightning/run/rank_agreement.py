"""What all ranks of a training must have in common, and the one line that tells what they do not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from epo_lightning.documents.plain_yaml import load, plain
from epo_lightning.limits import Mistake
from epo_lightning.run.code import computing_versions, fingerprint, own_fingerprint
from epo_lightning.run.overrides import find_changes
from epo_lightning.run.rank_lines import Place

_MOST = 3
"""Differences that are named."""


def common_facts(config: str, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Of this rank: what its numbers depend on, beside its machine.

    Args:
        config: The resolved configuration, as YAML.
        checkpoint: What tells the checkpoint from which it goes on from others.
    """
    return {
        "versions": computing_versions(),
        "sources": fingerprint(),
        "own": own_fingerprint(load(config)),
        "config": config,
        "checkpoint": dict(checkpoint),
    }


def require_agreement(facts: Sequence[Mapping[str, Any]], places: Sequence[Place]) -> None:
    """Refuse ranks that would train something else than the first one.

    Args:
        facts: Of every rank, in their order.
        places: Theirs.

    Raises:
        Mistake: One line with the first rank that differs, in what, and the remedy.
    """
    for theirs, place in zip(facts[1:], places[1:], strict=True):
        if not (differences := [*_differences(facts[0], theirs)]):
            continue
        more = len(differences) - _MOST
        told = "; ".join([*differences[:_MOST], *([f"and {more} more"] if more > 0 else [])])
        raise Mistake(
            f"{place} does not train what {places[0]} does: {told}: give all ranks the same configuration, checkpoint,"
            " package versions and code"
        )


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """What differs, as `torch 2.7.1 and not 2.8.0`."""
    yield from (
        f"{name} {other['versions'].get(name)} and not {first['versions'].get(name)}"
        for name in dict.fromkeys([*first["versions"], *other["versions"]])
        if first["versions"].get(name) != other["versions"].get(name)
    )
    if first["sources"] != other["sources"]:
        yield f"other code of epo_lightning (sources {other['sources']} and not {first['sources']})"
    if first["own"] != other["own"]:
        yield f"other code of your own classes (sources {other['own']} and not {first['own']})"
    if first["config"] != other["config"]:
        changes = find_changes(*(plain(load(each["config"])) for each in (first, other)))
        yield from (f"{each.key} {_told(each.new)} and not {_told(each.old)}" for each in changes)
        if not changes:
            yield "its configuration"
    yield from (
        f"{name} {_told(other['checkpoint'].get(name))} and not {_told(first['checkpoint'].get(name))}"
        for name in dict.fromkeys([*first["checkpoint"], *other["checkpoint"]])
        if first["checkpoint"].get(name) != other["checkpoint"].get(name)
    )


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
