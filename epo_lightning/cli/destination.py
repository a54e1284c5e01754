"""Where a training writes: the run folder that a command line means."""

import re
from pathlib import Path

from jsonargparse import Namespace

from epo_lightning.cli.arguments import RESUME
from epo_lightning.limits import Mistake
from epo_lightning.modules import DEFAULT_ALGORITHM
from epo_lightning.run.folder import RUNS, RunFolder


def choose_folder(config: Namespace, name: str | None, *, is_first_rank: bool) -> RunFolder:
    """Of `--run_dir`, of the checkpoint, or a new one.

    Args:
        config: The parsed configuration.
        name: What a new run is called; None: after its task. It tells the algorithm when that is not the usual one.
        is_first_rank: Only that one makes a new folder, and refuses one that holds another run.

    Raises:
        Mistake: When `--run_dir` holds another run.
    """
    home = RunFolder.of_checkpoint(Path(config.ckpt_path)) if config.ckpt_path else None
    if config.run_dir:
        folder = RunFolder(Path(config.run_dir))
        if folder.holds_run() and not (folder.same_as(home) or config.resume) and is_first_rank:
            saved = folder.last.exists()
            remedy = f"continue that run with --ckpt_path {config.run_dir}" if saved else f"begin it anew by {RESUME}"
            raise Mistake(
                f"run_dir: {config.run_dir} already holds {'another run' if saved else 'a run that never saved'}:"
                f" choose another folder, or {remedy}"
            )
        return folder
    if home is not None:
        return home
    if not is_first_rank:
        return RunFolder(RUNS)  # learns the name from rank 0 in RunRecorder
    name = name or config.data.env.class_path.rpartition(".")[2].lower()
    if config.algorithm not in (DEFAULT_ALGORITHM, *re.split(r"[-_]", name)):
        name = f"{name}-{config.algorithm}"
    return RunFolder.new(name, config.seed_everything)
