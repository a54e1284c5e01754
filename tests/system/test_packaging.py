"""The wheel and the source archive are complete and work away from the checkout."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    file.relative_to(ROOT / "epo_lightning" / "configs").as_posix()
    for file in (ROOT / "epo_lightning" / "configs").rglob("*.yaml")
)
MODULES = {file.relative_to(ROOT).as_posix() for file in (ROOT / "epo_lightning").rglob("*.py")}
CALLBACKS = sorted(file.name for file in (ROOT / "callbacks").glob("*.py"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=out)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


def test_source_archive_holds_modules_configurations_and_callbacks(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {f"epo_lightning/configs/{name}" for name in CONFIGS} <= names
    assert {f"epo_lightning/callbacks/{name}" for name in CALLBACKS} <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "epo_lightning/py.typed"} <= names
    assert names >= MODULES


def test_wheel_holds_modules_configurations_and_callbacks(archives: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(archives[1]).namelist())
    assert {f"epo_lightning/configs/{name}" for name in CONFIGS} <= names
    assert {f"epo_lightning/callbacks/{name}" for name in CALLBACKS} <= names
    assert "epo_lightning/py.typed" in names
    assert names >= MODULES
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"epo_lightning"}


@pytest.fixture(scope="module")
def site(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel."""
    site = tmp_path_factory.mktemp("site")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(archives[1]),
    ]
    subprocess.run(install, check=True, capture_output=True)
    return site


def test_the_installed_wheel_trains_from_any_folder(site: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    where = [sys.executable, "-c", "import epo_lightning; print(epo_lightning.__file__)"]
    found = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(site))
    command = ["fit", "--config", "quickstart", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    result = subprocess.run(
        [sys.executable, "-m", "epo_lightning", *command], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("runs/quickstart/*/checkpoints/last.ckpt"))


def test_the_installed_wheel_starts_a_worker(site: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/worker.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "my_sim.py").write_text(code)
    arguments = json.dumps({"python": sys.executable, "factory": "my_sim.py:make"})
    check = ["epo_lightning.envs.check", "epo_lightning.envs.worker.WorkerEnv", "--init_args", arguments]
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-m", *check], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
