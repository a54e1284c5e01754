"""`train`: what `epo-lightning fit` does, for a caller in Python."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epo_lightning.library.command import Names, invoked
from epo_lightning.library.settings import Settings
from epo_lightning.limits import Mistake
from epo_lightning.run.folder import checkpoint_to_continue

if TYPE_CHECKING:
    import lightning as L

    from epo_lightning.library.run import Run


def train(
    config: Names | None = None,
    settings: Settings | None = None,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    ckpt_path: object = None,
    pretrained: str | None = None,
    seed: int | None = None,
    env: object = None,
    callbacks: "L.Callback | Sequence[L.Callback]" = (),
    trust: bool = False,
) -> "Run":
    """Train a population, or continue a run, as `epo-lightning fit` does: the same files, refusals and numbers.

    Args:
        config: A configuration: the name of a packaged one, a path, or several, each an overlay of those before.
        settings: What differs from it, by dotted key: `{"model.num_agents": 8}`. Values are Python's: a text stays one.
        run_dir: The run folder; by default runs/<config>/<time>-seed<seed>, or that of `ckpt_path`.
        resume: Continue the run in `run_dir`, or begin it where there is none.
        ckpt_path: A checkpoint, a run folder, `last`, `best` or a `Run`, to go on from.
        pretrained: A policy that comes with the package, whose weights and configuration a new run begins with.
        seed: Of everything random.
        env: The task: a subclass of `VectorEnv`, its import path, or a function (num_envs, device, seed) ->
            environment. A class that Python can import by its name is named in the configuration, also one of a
            notebook; everything else is known to this process only and must be given again when the run resumes.
        callbacks: Lightning's callbacks, as objects, beside those of the configuration, which does not tell of them:
            give them again when the run resumes.
        trust: Use everything that somebody else's checkpoint names, which can run any code.

    Returns:
        The run, finished.

    Raises:
        Mistake: Whatever the command line refuses in one line.
        KeyboardInterrupt: After Ctrl-C, or the stop button of a notebook: the iteration was finished and saved.
        SystemExit: After a signal of a scheduler (SIGTERM, SIGHUP, SIGUSR1), also saved; 128 + its number.
    """
    origin = getattr(ckpt_path, "folder", ckpt_path)
    if (
        resume and run_dir is not None and (config, env, origin, pretrained) == (None, None, None, None)
    ):  # all is the checkpoint's
        origin, resume = checkpoint_to_continue(str(run_dir)), False
    args = [f"--run_dir={run_dir}"] * (run_dir is not None) + ["--resume"] * resume + ["--trust"] * trust
    args += [f"--ckpt_path={origin}"] * (origin is not None)
    args += [f"--pretrained={pretrained}"] * (pretrained is not None)
    args += [f"--seed_everything={seed}"] * (seed is not None)
    with invoked("fit", config, settings, args, env, _as_list(callbacks)) as invocation:
        code = invocation.function(invocation, **invocation.arguments)
        folder = Path(invocation.trainer.default_root_dir)
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt(f"the run is in {folder}; go on by train(run_dir={str(folder)!r}, resume=True)")
    if code:
        raise SystemExit(code)
    from epo_lightning.library.run import Run

    return Run(folder)


def _as_list(callbacks: "L.Callback | Sequence[L.Callback]") -> "Sequence[L.Callback]":
    from lightning import Callback

    given: Sequence[Any] = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
    for each in given:
        if not isinstance(each, Callback):
            raise Mistake(
                "callbacks must be objects of Lightning's Callback, such as MyCallback(); got"
                f" {each.__name__ if isinstance(each, type) else type(each).__name__}"
            )
    return given
