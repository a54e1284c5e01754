"""What a run is made with and on: told without secrets."""

import pytest
import torch

from epo_lightning.run.facts import facts


def test_the_environment_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "a-secret-of-mine")
    told = facts(torch.device("cpu"), 2, ["epo-lightning", "fit"], {})
    assert "a-secret-of-mine" not in str(told)
    assert told["device"]["kind"] == "cpu"
    assert told["device"]["ranks"] == 2
    assert told["command"] == ["epo-lightning", "fit"]
