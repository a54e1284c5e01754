"""The checkpoint that a command line names, read before anything is parsed."""

from pathlib import Path
from typing import Any, NamedTuple

from epo_lightning.cli.arguments import is_complete, option_values
from epo_lightning.cli.trust.consent import consented_config
from epo_lightning.cli.trust.embedded_config import dump, parse
from epo_lightning.modules import contents
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.checkpoint_contents import require_sound


class Trained(NamedTuple):
    """The checkpoint that a command line names.

    Attributes:
        path: Its file; None without one.
        config: The configuration in it.
        used: What of that comes before the command line's own, as text for `--config`; None for nothing.
        iterations: How many have been made.
    """

    path: str | None = None
    config: dict[str, Any] | None = None
    used: str | None = None
    iterations: int = 0


def read_trained(args: list[str]) -> Trained:
    """What `--ckpt_path` in a resolved command line names.

    Raises:
        Mistake: When it cannot be used, or would do what the user has not consented to.
    """
    named = option_values(args, "--ckpt_path")
    if not named:
        return Trained()
    path = named[-1][1]
    checkpoint = read_checkpoint(Path(path))
    used = None
    if is_complete(args):  # the same command that began the run: `callbacks+` would add once more
        require_sound(checkpoint, {})
    else:
        config = consented_config(checkpoint, Path(path), args)
        require_sound(checkpoint, config)
        used = dump(config)
    return Trained(path, parse(checkpoint[contents.CONFIG], limited=False), used, checkpoint.get("epoch", -1) + 1)
