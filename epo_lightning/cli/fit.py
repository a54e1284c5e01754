"""`fit`: train, and say where the results are."""

import shlex
import signal

from epo_lightning.cli.arguments import RESUME
from epo_lightning.cli.invocation import Invocation
from epo_lightning.cli.trainer import naming_the_callback
from epo_lightning.limits import Mistake
from epo_lightning.run.known_run import dismiss
from epo_lightning.run.run_checkpoints import RunCheckpoints


def fit(run: Invocation) -> int:
    """Train a population, or continue a run.

    Args:
        run: What the command line means.

    Returns:
        0, 128 + n when signal n stopped the training, 130 when a second one ended it at once.

    Raises:
        Mistake: When the checkpoint has more iterations than were asked for.
    """
    trainer = run.trainer
    wanted, done = trainer.max_epochs, run.trained.iterations
    if wanted not in (None, -1) and wanted < done and RESUME not in run.args:
        raise Mistake(
            f"trainer.max_epochs: the run has made {done} iterations, and {wanted} were asked for; to go on give more"
            f" than {done}"
        )
    ended_at_once, code = False, 1
    try:
        with naming_the_callback():
            trainer.fit(run.model, run.datamodule, ckpt_path=run.trained.path)
        code = 128 + run.stop.signal if run.stop.signal else 0
    except SystemExit as leaving:  # how Lightning answers to Ctrl-C, of which only the second one comes so far
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        ended_at_once = True
    except (ValueError, OSError):
        if trainer.strategy.launcher is not None:  # the other ranks would wait for this one
            trainer.strategy.launcher.kill(
                getattr(signal, "SIGKILL", signal.SIGTERM)
            )  # which ends a process of Windows
        raise
    finally:
        if trainer.is_global_zero:
            dismiss(trainer.loggers, code)
            _say_how_to_continue(run)
    if run.stop.signal and trainer.is_global_zero:  # Lightning kills all ranks when another one fails
        return 128 + run.stop.signal
    return 128 + signal.SIGINT if ended_at_once else 0


def _say_how_to_continue(run: Invocation) -> None:
    assert run.folder is not None
    done, wanted = run.trainer.current_epoch, run.trainer.max_epochs
    checkpoints = run.trainer.checkpoint_callbacks
    saved = next(each for each in checkpoints if isinstance(each, RunCheckpoints)).saved_iteration
    if saved is None or not run.folder.last.exists():
        if wanted not in (None, -1) and done >= wanted:
            print(f"Nothing to do: the run has made its {done} iterations; raise --trainer.max_epochs to go on")
        return
    last = shlex.quote(str(run.folder.last))
    if run.in_python:
        more = f', settings={{"trainer.max_epochs": {2 * saved}}}' if saved == wanted else ""
        go_on = f'train(ckpt_path="{run.folder.path}"{more})', f'Run("{run.folder.path}").evaluate()'
    else:
        more = f" --trainer.max_epochs {2 * saved}" if saved == wanted else ""
        commands = f"fit --ckpt_path {last}{more}", f"validate --ckpt_path {last}"
        go_on = f"python -m epo_lightning {commands[0]}", f"python -m epo_lightning {commands[1]}"
    print(
        f"Results in {run.folder.path}: {', '.join(run.folder.contents())} ({run.folder.last.name} is of iteration"
        f" {saved})\n"
        f"Continue:  {go_on[0]}\n"
        f"Evaluate:  {go_on[1]}",
        flush=True,
    )
