"""A command of the command line, for a caller in Python: the same parser, objects and refusals."""

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epo_lightning.cli.arguments import resolve, run_name
from epo_lightning.cli.commands import COMMANDS, RunCommand
from epo_lightning.cli.entry import describe, is_users_mistake, leave_process_group
from epo_lightning.cli.process_settings import keep_compiled_code, keep_freed_memory, yield_idle_threads
from epo_lightning.library.settings import Settings, as_nested, write_settings
from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    import lightning as L

    from epo_lightning.cli.invocation import Invocation

Names = str | Path | Sequence[str | Path]
"""Of configurations."""


@contextlib.contextmanager
def invoked(
    command: str,
    config: Names | None,
    settings: Settings | None,
    args: Sequence[str],
    env: object = None,
    callbacks: Sequence["L.Callback"] = (),
) -> "Iterator[Invocation]":
    """Everything that a command works with (see `cli.invocation`), for a caller in Python.

    Args:
        command: Its name.
        config: See `train`.
        settings: See `train`.
        args: Flags of the command line.
        env: See `train`.
        callbacks: See `train`.

    Raises:
        Mistake: Whatever the command line refuses, without the way there; `EPO_DEBUG=1` shows that.
    """
    keep_freed_memory()
    yield_idle_threads()
    keep_compiled_code()
    from epo_lightning.cli.invocation import Invocation

    row = COMMANDS[command]
    assert isinstance(row, RunCommand)
    given = [command, *(f"--config={name}" for name in _names(config))]
    with contextlib.ExitStack() as at_end:
        at_end.callback(leave_process_group)
        at_end.enter_context(_keeping_interrupt())
        file = Path(at_end.enter_context(tempfile.TemporaryDirectory(prefix="epo-"))) / "settings.yaml"
        try:
            words = [*given, *args]
            name = run_name(words)
            if whole := _with_env(settings, env):
                write_settings(whole, file)
                given.append(f"--config={file}")
            resolved = resolve([*given, *args])
            yield Invocation(row, resolved, name, at_end, given=words, callbacks=callbacks, in_python=True)
        except Exception as error:
            if os.environ.get("EPO_DEBUG") or isinstance(error, OSError) or not is_users_mistake(error):
                raise
            raise Mistake(describe(error).replace(f"{file}", "settings")) from None


def _with_env(settings: Settings | None, env: object) -> dict[str, Any]:
    """`settings` with what the configuration says of `env`."""
    whole = as_nested(settings or {})
    if env is not None:
        from epo_lightning.library.given import env_settings

        data = whole.setdefault("data", {})
        if not isinstance(data, dict) or not isinstance(data.get("env", {}), dict):
            raise Mistake("settings: data.env is given twice: as env, too")
        named, arguments = env_settings(env), dict(data.get("env", {}))
        if "class_path" in arguments:
            raise Mistake("settings: data.env.class_path is given twice: as env, too")
        arguments |= arguments.pop("init_args", {})  # which may be left out, as in a flag
        data["env"] = {**named, "init_args": {**arguments, **named.get("init_args", {})}}
    return whole


def _names(config: Names | None) -> list[str]:
    """Of the configurations, in order."""
    names = [] if config is None else [config] if isinstance(config, str | Path) else config
    if not isinstance(names, Sequence) or not all(isinstance(name, str | Path) for name in names):
        raise Mistake(f"config must be the name of a configuration, a path, or a list of these; got {config!r}")
    return [str(name) for name in names]


@contextlib.contextmanager
def _keeping_interrupt() -> Iterator[None]:
    """Ctrl-C does afterwards what it did before: Lightning leaves it switched off when it stops at once."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if is_main else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
