"""What a user changes of a run when it resumes: keys given together with the checkpoint.

Every key that is not in `FIXED`, and about which the network's identity says nothing, is applied: the trainer, the
losses, the buffer, the callbacks and the environments are built anew from the configuration, and what the restored
state would overwrite (Adam's learning rate, clocks) is set after it.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from epo_lightning.limits import Mistake

UNSET = "unset"
_WEIGHTS = "the checkpoint's weights are made for it"
FIXED = {
    "algorithm": _WEIGHTS,
    "seed_everything": "a run goes on with the random numbers that it has",
    "model.rollout.master_share": "every environment has an agent's running episode in the checkpoint",
    "data.env.class_path": "the running episodes in the checkpoint are its own",
    "trainer.callbacks.GeneticEvolution.seed": "a run goes on with the random numbers that it has",
    "trainer.callbacks.PopulationBasedTraining.seed": "a run goes on with the random numbers that it has",
}
"""Keys that cannot change when a run resumes, whatever trains it, and why; environments refuse more of their own
`init_args`."""
_BEGINNING = "matters only where a run begins"
NOTES = {
    "model.network.log_std_init": _BEGINNING,
    "model.loss.temperature": _BEGINNING,
    **{f"model.initial.{name}": _BEGINNING for name in ("fan_in", "gene_gain", "action_gain")},
    "model.diversity.hidden": "the classifier begins anew",
    "model.replay.warmup": "matters only until something is learnt",
    "trainer.callbacks.GeneticEvolution.warmup_env_steps": "matters only until the first generation",
    "trainer.callbacks.PopulationBasedTraining.initial_delay": "matters only until the first generation",
}
"""Of keys whose time is over, or may be, and of those that begin something anew."""
CALLBACKS = "trainer.callbacks"
"""Changes when some are added or removed."""
_LISTS = (CALLBACKS, "trainer.logger")


class Change(NamedTuple):
    """One key with its value in the checkpoint and the one that was given."""

    key: str
    old: object
    new: object

    def __str__(self) -> str:
        note = f" ({NOTES[self.key]})" if self.key in NOTES else ""
        return f"{self.key} {_tell(self.old)} -> {_tell(self.new)}{note}"


def find_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The keys in which two resolved configurations differ.

    Of callbacks and loggers the key is the name of the class, whatever its place; those that were added or removed are
    told by the list of all names.
    """
    return [*_compare("", old, new)]


def require_changeable(changes: Sequence[Change], of_weights: Collection[str] = ()) -> None:
    """Refuse what cannot change.

    Args:
        changes: See `find_changes`.
        of_weights: Keys behind `model.` that say what the weights in the checkpoint mean.

    Raises:
        Mistake: Naming the key, both values, the reason and the remedy.
    """
    fixed = {**FIXED, **{f"model.{key}": _WEIGHTS for key in of_weights}}
    for change in changes:
        if change.key in fixed:
            raise Mistake(
                f"--ckpt_path: {change} cannot change on resume, {fixed[change.key]}; leave it to the checkpoint, or"
                " start a new run"
            )


def _compare(key: str, old: object, new: object) -> Iterator[Change]:
    before, after = (_objects(each) if key in _LISTS else None for each in (old, new))
    if before is not None and after is not None:
        yield from _compare_objects(key, _by_name(before), _by_name(after))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in {**old, **new}:
            inner = f"{key}.{name}" if key else name
            yield from _compare(inner, old.get(name, UNSET), new.get(name, UNSET))
    elif old != new:
        yield Change(key, old, new)


def _compare_objects(key: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    if [*old] != [*new]:
        yield Change(key, [*old], [*new])
    for name in old.keys() & new.keys():
        yield from _compare(f"{key}.{name}", old[name], new[name])


def _objects(value: object) -> list[Mapping[str, Any]] | None:
    """What the configuration says of objects (none, one, or a list) as a list; None where it says something else."""
    items: list[Any] = value if isinstance(value, list) else [value] if value else []
    return items if all(isinstance(each, Mapping) for each in items) else None


def _by_name(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The arguments of every object by the name of its class, numbered where there are several of one."""
    found: dict[str, Any] = {}
    for each in objects:
        name = str(each["class_path"]).rpartition(".")[2]
        count = sum(known.partition("#")[0] == name for known in found)
        arguments = {"class_path": each["class_path"], **each.get("init_args", {})}
        found[f"{name}#{count + 1}" if count else name] = arguments
    return found


def _tell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
