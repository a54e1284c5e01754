"""Somebody else's checkpoints, made of an own one, and what every command must say of them."""

import copy
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from epo_lightning.modules.contents import SIGNATURE as SIGNATURE_KEY
from tests.support.command_line import Cli

COMMANDS = ("fit", "validate", "test", "play", "view", "export")
GYM, WORKER = "epo_lightning.envs.gymnasium.GymnasiumEnv", "epo_lightning.envs.worker.WorkerEnv"
KUKA, PROBE = "epo_lightning.envs.allegro_kuka.AllegroKuka", "epo_lightning.envs.classic.Probe"
GENES = "epo_lightning.callbacks.GeneticEvolution"
K_POINT = "epo_lightning.algorithm.crossover.KPoint"


def spec(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


def load(path: str = "own/checkpoints/last.ckpt") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def forge(*changes: tuple[str, Any], name: str = "foreign.ckpt", mark: object = None) -> str:
    """Somebody else's checkpoint: the own one with other values in its configuration."""
    checkpoint = load()
    config = yaml.safe_load(checkpoint[CONFIG_KEY])
    for key, value in changes:
        *groups, last = key.split(".")
        group = config
        for each in groups:
            group = group[each]
        group[last] = copy.deepcopy(value)
    return save({**checkpoint, CONFIG_KEY: yaml.safe_dump(config)}, name, mark)


def save(checkpoint: dict[str, Any], name: str = "foreign.ckpt", mark: object = None) -> str:
    """A file that this user's key has not signed."""
    checkpoint = {**checkpoint, SIGNATURE_KEY: mark}
    if mark is None:
        del checkpoint[SIGNATURE_KEY]
    torch.save(checkpoint, name)
    return name


def snapshot() -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in Path().rglob("*")
        if "__pycache__" not in str(path)
    }


def refused(cli: Cli, words: str, *args: str, commands: tuple[str, ...] = COMMANDS) -> None:
    """Every command says `words` in one line, and nothing has happened."""
    for command in commands:
        before = snapshot()
        outcome = cli(command, *args)
        assert outcome.code == 2, command
        assert outcome.err.startswith("error: ckpt_path: "), outcome.err
        assert outcome.err.count("\n") == 1
        assert outcome.err.strip().isprintable()
        assert words in outcome.err
        assert "TOPSECRET" not in outcome.err + outcome.out
        assert "evil" not in sys.modules
        assert not Path("canary").exists()
        assert snapshot() == before
