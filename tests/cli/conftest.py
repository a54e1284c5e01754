"""What the tests of trust find: a run of this user, among files that nobody may touch."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from epo_lightning.cli.entry import main
from tests.support.command_line import TINY, Cli
from tests.support.strangers import GENES, spec

EVIL = """
from pathlib import Path
Path("canary").touch()
from epo_lightning.envs.classic import Probe
from lightning import Callback
from lightning.pytorch.loggers import CSVLogger
class Env(Probe): pass
class Spy(Callback): pass
class Log(CSVLogger): pass
def make(*args, **kwargs): Path("canary").touch()
"""
MINE = """
from epo_lightning.envs.classic import Probe
class Mine(Probe):
    def __init__(self, num_envs, device, seed, max_steps=3, flavour="plain"):
        super().__init__(num_envs, device, seed, max_steps)
        self.flavour = flavour
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of this user."""
    folder = tmp_path_factory.mktemp("trained")
    callbacks = [spec(GENES, num_elites=1), spec("epo_lightning.callbacks.NaNGuard")]
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "more.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    args = [
        f"--config={folder}/tiny.yaml",
        f"--config={folder}/more.yaml",
        "--run_dir",
        folder / "own",
        "--trainer.max_epochs",
        1,
    ]
    assert main(["fit", *map(str, args)]) == 0
    return folder / "own"


@pytest.fixture
def own(cli: Cli, trained: Path) -> Cli:
    """The command line in a folder with a run of this user, and files that nobody may touch."""
    shutil.copytree(trained, "own")
    Path("secret.yaml").write_text("model: {password: TOPSECRET}\n")
    Path("secret").write_text("TOPSECRET\n")
    Path("evil.sh").write_text("#!/bin/sh\ntouch canary\n")
    Path("evil.sh").chmod(0o755)
    return cli


@pytest.fixture
def evil_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the working folder; `python -m` finds such."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "mine.py").write_text(MINE)
    yield
    for name in ("evil", "mine"):
        sys.modules.pop(name, None)
