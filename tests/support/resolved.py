"""The configuration that a command line stands for, and its values by key."""

from typing import Any

import pytest
import yaml

from epo_lightning.cli.entry import main


def resolved(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """The configuration that `fit` would train."""
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *args, "--print_config"])
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


def at(config: dict[str, Any], key: str) -> object:
    """The value at a key with dots."""
    for part in key.split("."):
        config = config[part]
    return config
