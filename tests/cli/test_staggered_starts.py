"""Who trains on environments that end together is told so, once, and what spreads them does."""

import pytest

from tests.support.command_line import Cli

ENDS_BY_ITS_LIMIT = ("--data.env.init_args.max_steps=6", "--data.env.init_args.ending=truncated")
TOLD = "Probe: environments meet their time limit of 6 steps together, so that an iteration of 4 sees one part"


@pytest.mark.parametrize(("staggered", "times"), [("false", 1), ("true", 0)])
def test_a_run_tells_it_once(cli: Cli, caplog: pytest.LogCaptureFixture, staggered: str, times: int) -> None:
    flags = (f"--model.rollout.staggered_starts={staggered}", "--trainer.max_epochs=6")  # four episodes
    outcome = cli("fit", "--config", "tiny.yaml", *ENDS_BY_ITS_LIMIT, *flags, "--run_dir", "run")
    assert outcome.code == 0, outcome.err
    assert caplog.text.count(TOLD) == times
