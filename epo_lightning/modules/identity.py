"""What a network was made for: every checkpoint tells it, and every command compares it."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from epo_lightning.envs.base import EnvSpec
from epo_lightning.learner.observations import Groups, described, seen_by_actors
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake

Settings = TypeVar("Settings")
_OF_THE_TASK = ("task", "groups", "obs_dim", "act_dim", "discrete")
_OF_IMAGES = "network.image_"


class UnknownSettingError(Mistake):
    """A checkpoint was written by a version that had another setting."""


@dataclass(frozen=True)
class Identity:
    """An algorithm, a task with its sizes, and the settings that say what the weights of the network mean.

    Attributes:
        algorithm: Its name in `ALGORITHMS`.
        task: `EnvSpec.name`.
        obs_dim: Observation entries.
        act_dim: Action entries, or choices of a discrete task.
        discrete: Whether an action is a choice.
        model: Settings of the module by their key behind `model.`, such as `num_agents` and `network.hidden`.
        groups: Of what the observation is made; () for one vector, or where nobody told.
    """

    algorithm: str
    task: str
    obs_dim: int
    act_dim: int
    discrete: bool
    model: Mapping[str, Any]
    groups: Groups = ()

    @classmethod
    def of(cls, algorithm: str, spec: EnvSpec, model: Mapping[str, Any]) -> "Identity":
        """That of a network of `algorithm` for environments as `spec` tells them."""
        return cls(algorithm, spec.name, spec.obs_dim, spec.act_dim, spec.discrete, dict(model), spec.groups)

    def as_dict(self) -> dict[str, Any]:
        """As checkpoints keep it."""
        return asdict(self)

    def plain_values(self) -> list[Any]:
        """Every value in it."""
        sizes = [self.algorithm, self.task, self.obs_dim, self.act_dim, self.discrete, *self.model.values()]
        return [*sizes, *(value for group in self.groups for value in (group.name, group.shape, group.privileged))]

    def settings(self, group: str, kind: type[Settings]) -> Settings:
        """The settings of one group, such as `network`, as the dataclass that holds them.

        Raises:
            UnknownSettingError: When it has one that this version does not have.
        """
        prefix = f"{group}."
        values = {key.removeprefix(prefix): value for key, value in self.model.items() if key.startswith(prefix)}
        known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
        if strange := next((name for name in values if name not in known), None):
            raise UnknownSettingError(
                f"ckpt_path: its network has {ascii(prefix + strange)[:80]}, which this version does not know"
            )
        return kind(**values)


def require_same_identity(saved: Identity, mine: Identity, may_differ: Collection[str] = ()) -> None:
    """Refuse the network of a checkpoint for another task or of another make.

    Args:
        saved: The checkpoint's.
        mine: That of what it is to be loaded into.
        may_differ: Keys of `Identity.model` that are not compared.

    Raises:
        Mistake: Naming the key and both values.
    """
    if saved.algorithm != mine.algorithm:
        raise Mistake(
            f"--ckpt_path does not match: it was trained by the algorithm {saved.algorithm}, not {mine.algorithm};"
            " leave algorithm to the checkpoint"
        )
    for key in _OF_THE_TASK:
        theirs, value = getattr(saved, key), getattr(mine, key)
        if key == "groups":
            if theirs == value or _told_no_names(saved, mine):
                continue
            key, theirs, value = "observation", described(theirs), described(value)
        if theirs != value:
            own = f" (an environment of yours that is this task says so in EnvSpec.name: {theirs})"
            raise Mistake(
                f"--ckpt_path does not match: its {key} is {theirs}, not {value}; leave data.env to the checkpoint"
                f"{own if key == 'task' else ''}"
            )
    for key in saved.model.keys() | mine.model.keys():
        theirs, value = saved.model.get(key), mine.model.get(key)
        if key.startswith(_OF_IMAGES) and not any(group.is_image for group in mine.groups):
            continue  # there is no encoder that it would change; older checkpoints have none
        if theirs != value and key not in may_differ:
            raise Mistake(
                f"--ckpt_path does not match: it has model.{key} {theirs}, not {value}; leave model.{key} to the"
                " checkpoint"
            )


def require_blind(policy: Policy, identity: Identity) -> None:
    """Refuse a network whose actors would see what is privileged, as one of a user's own that knows no groups.

    Raises:
        Mistake: Naming the algorithm and the groups.
    """
    hidden = [group for group in identity.groups if group.privileged]
    if hidden and getattr(policy, "sees", None) != seen_by_actors(identity.groups, identity.obs_dim):
        raise Mistake(
            f"--algorithm {identity.algorithm} would show its actors {described(hidden)}: its build_policy() must give"
            " the network Identity.groups, or the task must leave that out"
        )


def _told_no_names(saved: Identity, mine: Identity) -> bool:
    """Whether it is of a version in which vectors had no names, and what the weights mean is the same."""
    return not saved.groups and not any(group.privileged or group.is_image for group in mine.groups)
