"""`validate` and `test`; `EvaluationReport` tells the result."""

import signal
import sys
from collections.abc import Callable
from typing import Any

from epo_lightning.cli.agents import roster
from epo_lightning.cli.invocation import Invocation
from epo_lightning.cli.ranks import together
from epo_lightning.cli.trainer import naming_the_callback


def validate(run: Invocation, agents: str | None = None, noise: bool = False) -> int:
    """Play complete episodes of the master.

    Args:
        run: What the command line means.
        agents: Agents to evaluate side by side, too, by their mean actions: all, or numbers such as 0,1,5.
        noise: Evaluate them with drawn actions, as in training, too; without --agents: who is evaluated anyway.
    """
    return _evaluate(run, run.trainer.validate, agents, noise)


def test(run: Invocation, agents: str | None = None, noise: bool = False) -> int:  # noqa: PT028  (a command)
    """The same in the environments of `data.eval_seeds`, alike for every run.

    Args:
        run: What the command line means.
        agents: Agents to evaluate side by side, too, by their mean actions: all, or numbers such as 0,1,5.
        noise: Evaluate them with drawn actions, as in training, too; without --agents: who is evaluated anyway.
    """
    return _evaluate(run, run.trainer.test, agents, noise)


def _evaluate(run: Invocation, evaluation: Callable[..., Any], agents: str | None, noise: bool) -> int:
    model = run.model
    model.draws_too = noise and not model.is_deterministic
    if noise and model.is_deterministic and run.trainer.is_global_zero:
        print(
            f"notice: --noise: policies of {run.algorithm} have no noise of their own, so none is drawn",
            file=sys.stderr,
        )
    if agents is not None:
        model.roster = roster(agents, model.num_agents)
    elif model.draws_too:
        model.roster = (run.trained.champion,)
    try:
        with together(run), naming_the_callback():
            evaluation(model, datamodule=run.datamodule, ckpt_path=run.trained.path, verbose=False)
    except SystemExit:  # how Lightning answers to Ctrl-C
        return 128 + signal.SIGINT
    return 0
