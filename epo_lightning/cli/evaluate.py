"""`validate` and `test`; `EvaluationReport` tells the result."""

import signal
from collections.abc import Callable
from typing import Any

from epo_lightning.cli.invocation import Invocation
from epo_lightning.cli.trainer import naming_the_callback


def validate(run: Invocation) -> int:
    """Play complete episodes of the master.

    Args:
        run: What the command line means.
    """
    return _evaluate(run, run.trainer.validate)


def test(run: Invocation) -> int:
    """The same in the environments of `data.eval_seeds`, alike for every run.

    Args:
        run: What the command line means.
    """
    return _evaluate(run, run.trainer.test)


def _evaluate(run: Invocation, evaluation: Callable[..., Any]) -> int:
    try:
        with naming_the_callback():
            evaluation(run.model, datamodule=run.datamodule, ckpt_path=run.trained.path, verbose=False)
    except SystemExit:  # how Lightning answers to Ctrl-C
        return 128 + signal.SIGINT
    return 0
