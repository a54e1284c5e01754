"""Whether the user has consented to what the configuration in a checkpoint names.

Somebody else's checkpoint keeps to the `allowlist`, or it is refused by one line. Consent is that the user's own `fit`
wrote it (`signature`), that the same command line gives these keys itself, or `--trust`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from epo_lightning.cli.given import given_settings, gives
from epo_lightning.cli.trust import embedded_config
from epo_lightning.cli.trust.allowlist import Finding, findings, shown
from epo_lightning.cli.trust.embedded_config import at, class_specs
from epo_lightning.cli.trust.signature import is_signed, sign
from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.run.folder import RunFolder

TRUST = "--trust"


def consented_config(checkpoint: Mapping[str, Any], path: Path, args: list[str]) -> dict[str, Any]:
    """The configuration of a checkpoint, when the user has consented to it.

    Args:
        checkpoint: See `checkpoint.read_checkpoint`.
        path: Its file.
        args: Command line after `arguments.resolve`.

    Raises:
        Mistake: When it is not a configuration, or names what nobody has consented to. Nothing of that is imported,
            started or read.
    """
    text = checkpoint[contents.CONFIG]
    own, trusted = isinstance(text, str) and is_signed(text, checkpoint.get(contents.SIGNATURE)), TRUST in args
    try:
        config = embedded_config.parse(text, limited=not (own or trusted))
    except ValueError as error:
        raise Mistake(f"ckpt_path: {path} cannot be used: {error}") from None
    if not own and not trusted:
        _leave_to_the_user(config, path, args)
        if (link := _way_out(path)) is not None:
            raise Mistake(
                f"ckpt_path: {path} is none of your own runs, and {link} is a link to {shown(os.readlink(link))}, where"
                f" this command would write: remove it, or add {TRUST} if you trust who made that folder"
            )
    if not own:
        _keep_inside(config)
    return config


def signature_of(config: str) -> str | None:
    """The mark for a checkpoint with the configuration `config`; None, and one notice if it matters, without a key."""
    try:
        return sign(config)
    except OSError as error:
        needs = findings(embedded_config.parse(config, limited=False))
        if needs:
            _tell(
                f"these checkpoints cannot be marked as yours ({error.filename or 'key'}: {error.strerror or error}):"
                f" to use them, add {TRUST}, or give {_keys(needs)} again"
            )
        return None


# Consent ------------------------------------------------------------------------------------------------------------


def _leave_to_the_user(config: dict[str, Any], path: Path, args: list[str]) -> None:
    """Take out of `config` what needs consent and is given by the user's own command line.

    Raises:
        Mistake: When it is not.
    """
    needs, given = findings(config), given_settings(args)
    for key in dict.fromkeys(each.key for each in needs if gives(given, each.key)):
        _drop(config, key)
    if missing := findings(config):
        what = ", ".join(dict.fromkeys(each.what for each in missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise Mistake(
            f"ckpt_path: {path} is none of your own runs, and its configuration would {what}: add {TRUST} if you trust"
            f" who made it, or give {_keys(missing)} yourself"
        )
    if needs:
        _tell(f"{_keys(needs)}: as your command line has it, nothing of it from the checkpoint")


def _drop(config: dict[str, Any], key: str) -> None:
    """Take `key` out, which may lead through a class to one of its arguments."""
    *groups, last = key.split(".")
    group: object = config
    for name in groups:
        group = _holder(group, name).get(name)
    _holder(group, last).pop(last, None)


def _holder(group: object, name: str) -> dict[str, Any]:
    """The mapping with the key `name`: `group`, or the arguments of that class."""
    holders = [group, group.get("init_args")] if isinstance(group, dict) else []
    return next((each for each in holders if isinstance(each, dict) and name in each), {})


def _keys(needs: list[Finding]) -> str:
    return ", ".join(dict.fromkeys(each.key for each in needs[:5]))


# Where it would write -----------------------------------------------------------------------------------------------


def _way_out(checkpoint: Path) -> Path | None:
    """A link by which a stranger's run folder leads out of itself, where this package would write."""
    home = RunFolder.of_checkpoint(checkpoint)
    root = home.path if home else checkpoint.parent
    for each in root.rglob("*") if home else root.glob(f"{checkpoint.stem}.*"):
        is_replaced = each.suffix == ".ckpt"  # and not written to
        if each.is_symlink() and not is_replaced and not _is_inside(each, root):
            return each
    return None


def _keep_inside(config: dict[str, Any]) -> None:
    """Where loggers and callbacks save is for this invocation to say, unless it is inside the run folder."""
    for name in ("logger", "callbacks", "profiler"):
        for spec in class_specs(at(config, f"trainer.{name}")):
            arguments: Any = spec.get("init_args") if isinstance(spec, dict) else None
            for argument, value in list(arguments.items()) if isinstance(arguments, dict) else ():
                if isinstance(value, str) and _points_outside(value):
                    del arguments[argument]
                    if argument == "save_dir":
                        arguments[argument] = "."
                    _tell(f"trainer.{name}: {shown(argument)} {shown(value)} of the checkpoint is not used")


def _is_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _points_outside(path: str) -> bool:
    return os.path.isabs(path) or path.startswith("~") or ".." in Path(path).parts


def _tell(notice: str) -> None:
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        print(f"notice: {notice}", file=sys.stderr)
