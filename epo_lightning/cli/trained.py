"""The checkpoint that a command line names, read before anything is parsed."""

from pathlib import Path
from typing import Any, NamedTuple

from epo_lightning.algorithm.population import MASTER
from epo_lightning.cli.algorithm import KEY, is_known, named_algorithm
from epo_lightning.cli.arguments import PRETRAINED, is_complete, option_values
from epo_lightning.cli.trust.allowlist import shown
from epo_lightning.cli.trust.consent import consented_config
from epo_lightning.cli.trust.embedded_config import parse
from epo_lightning.limits import Mistake
from epo_lightning.modules import ALGORITHMS, admit, algorithm_class, contents
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.checkpoint_contents import require_sound
from epo_lightning.run.history import Ancestor, History, history_of


class Trained(NamedTuple):
    """The checkpoint that a command line names.

    Attributes:
        path: Its file; None without one.
        config: The configuration in it.
        used: What of that comes before the command line's own; None for nothing.
        iterations: How many have been made.
        algorithm: What trained it.
        fixed: The keys behind `model.` that say what its weights mean.
        history: Of a run that goes on from it.
        env_steps: How many have been made.
        champion: The agent that acts where nobody is named.
        begins_with: A policy whose weights a new run begins with; `path` is None then.
    """

    path: str | None = None
    config: dict[str, Any] | None = None
    used: dict[str, Any] | None = None
    iterations: int = 0
    algorithm: str | None = None
    fixed: frozenset[str] = frozenset()
    history: History = History()
    env_steps: int = 0
    champion: int = MASTER
    begins_with: Path | None = None


def read_trained(args: list[str]) -> Trained:
    """What `--ckpt_path` in a resolved command line names.

    Raises:
        Mistake: When it cannot be used, or would do what the user has not consented to.
    """
    named, policy = option_values(args, "--ckpt_path"), option_values(args, PRETRAINED)
    if policy and not named:
        return _begun_with(policy[-1][1], args)
    if not named:
        return Trained()
    path = named[-1][1]
    checkpoint = read_checkpoint(Path(path))
    identity, used = contents.identity_of(checkpoint), None
    algorithm = identity.algorithm
    if is_complete(args):  # the same command that began the run: `callbacks+` would add once more
        _require_known(algorithm, named_algorithm(args), path)
        require_sound(checkpoint, {})
        used = _begun_with(policy[-1][1], args).used if policy else None
    else:
        config = consented_config(checkpoint, Path(path), args)
        _require_known(algorithm, config.get(KEY, named_algorithm(args)), path)
        require_sound(checkpoint, config)
        used = {KEY: algorithm, **config}
    whole = {KEY: algorithm, **parse(checkpoint[contents.CONFIG], limited=False)}
    fixed = identity.model.keys() - algorithm_class(algorithm).changeable
    ancestor = Ancestor.of(Path(path), checkpoint)
    history = history_of(checkpoint).continued_from(ancestor)
    champion = contents.champion_of(checkpoint)
    return Trained(
        path, whole, used, ancestor.iteration, algorithm, frozenset(fixed), history, ancestor.env_steps, champion
    )


def _begun_with(path: str, args: list[str]) -> Trained:
    """A new run that begins with the policy in the file `path`, whose configuration lies below the command line's."""
    checkpoint = read_checkpoint(Path(path))
    config, algorithm = consented_config(checkpoint, Path(path), args), contents.identity_of(checkpoint).algorithm
    require_sound(checkpoint, config)
    return Trained(used={KEY: algorithm, **config}, algorithm=algorithm, begins_with=Path(path))


def _require_known(algorithm: str, consented: object, path: str) -> None:
    """Refuse an algorithm that is neither in the table nor the one that the user has consented to."""
    if not is_known(algorithm) and algorithm == consented:
        admit(algorithm)
    if not is_known(algorithm):
        raise Mistake(
            f"ckpt_path: {path} was trained by the algorithm {shown(algorithm)}; this version has"
            f" {', '.join(ALGORITHMS)}"
        )
