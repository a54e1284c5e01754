"""`fit`: train, and say where the results are."""

import math
import shlex
import signal
import sys
from dataclasses import replace

from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_warn

from epo_lightning.cli.arguments import RESUME
from epo_lightning.cli.doctor.cards import cards_of, mixed_cards
from epo_lightning.cli.full_memory import naming_full_memory
from epo_lightning.cli.invocation import Invocation
from epo_lightning.cli.ranks import together
from epo_lightning.cli.trainer import naming_the_callback
from epo_lightning.limits import Mistake
from epo_lightning.run.interruption import TimeLimit
from epo_lightning.run.known_run import begin, dismiss
from epo_lightning.run.metrics_table import MetricsTable
from epo_lightning.run.neighbours import has_stopped
from epo_lightning.run.run_checkpoints import RunCheckpoints
from epo_lightning.run.summary import Ending, RunSummary, coverage_of, last_row, score_of


def fit(run: Invocation) -> int:
    """Train a population, or continue a run.

    Args:
        run: What the command line means.

    Returns:
        0, 128 + n when signal n stopped the training, 130 when a second one ended it at once.

    Raises:
        Mistake: When settings do not fit each other, or the checkpoint has more iterations than were asked for.
    """
    run.require_fitting()
    trainer = run.trainer
    wanted, done = trainer.max_epochs, run.trained.iterations
    if wanted not in (None, -1) and wanted < done and RESUME not in run.args:
        raise Mistake(
            f"trainer.max_epochs: the run has made {done} iterations, and {wanted} were asked for; to go on give more"
            f" than {done}"
        )
    if trainer.strategy.root_device.type == "cuda" and (line := mixed_cards(cards_of(trainer))):
        rank_zero_warn(line)
    begin(trainer.loggers)
    ended_at_once, code, ending = False, 1, Ending("failed")
    try:
        stopped = together(run, lambda line: _sum_up(run, Ending("failed", line)))
        with stopped, naming_the_callback(), naming_full_memory():
            trainer.fit(run.model, run.datamodule, ckpt_path=run.trained.path)
        code, ending = (128 + run.stop.signal if run.stop.signal else 0), _ending(run)
    except SystemExit as leaving:  # how Lightning answers to Ctrl-C, of which only the second one comes so far
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        ended_at_once, code, ending = True, 128 + signal.SIGINT, Ending("interrupted", "SIGINT, at once")
    except (ValueError, OSError):
        if trainer.strategy.launcher is not None:  # the other ranks would wait for this one
            trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # the latter on Windows
        raise
    finally:
        if trainer.is_global_zero:
            dismiss(trainer.loggers, code)
            _sum_up(run, ending)
    if run.stop.signal and trainer.is_global_zero:  # Lightning kills all ranks when another one fails
        return 128 + run.stop.signal
    return 128 + signal.SIGINT if ended_at_once else 0


def _ending(run: Invocation) -> Ending:
    """Of a training that Lightning has brought to its end."""
    if run.stop.signal:
        return Ending("interrupted", signal.Signals(run.stop.signal).name)
    wanted = run.trainer.max_epochs
    if wanted not in (None, -1) and run.trainer.current_epoch >= wanted:
        return Ending("finished")
    callbacks = run.trainer.callbacks  # type: ignore[attr-defined]
    for each in callbacks:
        if isinstance(each, Timer) and (left := each.time_remaining()) is not None and left <= 0:
            return Ending("stopped", "trainer.max_time" if isinstance(each, TimeLimit) else type(each).__name__)
        if has_stopped(each, run.trainer.current_epoch):
            return Ending("stopped", type(each).__name__)
    return Ending("stopped", "a callback")


def _sum_up(run: Invocation, ending: Ending) -> None:
    """Print and write what came of the run, when anything was trained."""
    folder, trainer = run.folder, run.trainer
    assert folder is not None
    if run.recorder.has_begun and (error := sys.exception()) is not None and ending.status == "failed":
        ending = Ending("failed", " ".join(str(error).split()) or type(error).__name__)
    if not run.recorder.has_begun:
        if ending.status != "finished":
            return
        done = trainer.current_epoch
        print(f"Nothing to do: the run has made its {done} iterations; raise --trainer.max_epochs to go on")
        if folder.summary.exists():
            return
    try:
        summary = _summary(run, ending)
        if run.recorder.has_begun:
            print(summary.as_text(), flush=True)
        if folder.config.exists():  # somebody else may have emptied the folder
            summary.write(folder)
    except (Mistake, OSError) as fault:
        if ending.status != "failed":  # otherwise that is the news
            print(f"notice: the summary of the run was not written: {fault}", file=sys.stderr)


def _summary(run: Invocation, ending: Ending) -> RunSummary:
    folder, model = run.folder, run.model
    assert folder is not None
    saves = next(each for each in run.trainer.checkpoint_callbacks if isinstance(each, RunCheckpoints))
    rows = next(each for each in run.trainer.loggers if isinstance(each, MetricsTable)).rows()
    iterations, env_steps = last_row(rows) or (run.trainer.current_epoch, model.env_steps)
    saved = saves.saved_iteration if saves.saved_iteration is not None else run.trained.iterations
    best = None
    if saves.best_iteration is not None and math.isfinite(saves.best_score):
        file = str(folder.best.relative_to(folder.path)) if folder.best.exists() else None
        best = replace(score_of(rows, saves.best_iteration, file), episodic_return=saves.best_score)
    summaries = [folder.summary.name, folder.summary_text.name]
    last = f"{folder.last.relative_to(folder.path)}" if folder.last.exists() else None
    if last is not None and saved != iterations:
        last += f" (of iteration {saved})"
    return RunSummary(
        ending=ending,
        algorithm=run.algorithm,
        task=run.datamodule.spec.name,
        agents=model.num_agents,
        envs=run.datamodule.num_envs * run.trainer.world_size,
        device=run.trainer.strategy.root_device.type,
        seconds=run.recorder.seconds,
        continuations=len(run.recorder.history.lineage),
        env_steps=env_steps,
        iterations=iterations,
        best=best,
        last=score_of(rows, iterations, last) if rows else None,
        folder=str(folder.path),
        files=[*(name for name in folder.contents() if name not in summaries), *summaries],
        commands=_commands(run, saved) if last is not None else {},
        coverage=coverage_of(rows),
    )


def _commands(run: Invocation, saved: int) -> dict[str, str]:
    """How to go on from the last checkpoint, for who has called."""
    assert run.folder is not None
    is_complete = saved == run.trainer.max_epochs
    if run.in_python:
        more = f', settings={{"trainer.max_epochs": {2 * saved}}}' if is_complete else ""
        folder = run.folder.path
        return {"Continue": f'train(ckpt_path="{folder}"{more})', "Evaluate": f'Run("{folder}").evaluate()'}
    last = shlex.quote(str(run.folder.last))
    more = f" --trainer.max_epochs {2 * saved}" if is_complete else ""
    return {
        "Continue": f"python -m epo_lightning fit --ckpt_path {last}{more}",
        "Evaluate": f"python -m epo_lightning validate --ckpt_path {last}",
        "Play": f"python -m epo_lightning play --ckpt_path {last}",
    }
