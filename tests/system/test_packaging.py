"""The wheel and the source archive are complete, from any checkout, and work away from it."""

import email
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIGS = {file.relative_to(ROOT).as_posix() for file in (ROOT / "epo_lightning" / "configs").rglob("*.yaml")}
PAGES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "epo_lightning/export/web").iterdir()}
POLICIES = {
    file.relative_to(ROOT).as_posix() for file in (ROOT / "epo_lightning" / "pretrained" / "policies").iterdir()
}
MODULES = {file.relative_to(ROOT).as_posix() for file in (ROOT / "epo_lightning").rglob("*.py")} | {
    file.relative_to(ROOT).as_posix() for file in (ROOT / "epo_runtime").glob("*.py")
}
IN_SOURCE = (
    "benchmarks/*.py",
    "docs/**/*.md",
    "docs/**/*.png",
    "docs/**/*.py",
    "docs/**/*.css",
    "epo_runtime/pyproject.toml",
    "examples/*.py",
    "notebooks/*.ipynb",
    "tests/**/*.py",
)
BESIDE = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "SECURITY.md", "constraints.txt"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
QUICK = ("fit", "--config", "wall_maze", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu")
WHOLE_EPISODES = ("--data.num_envs", "64", "--model.rollout.horizon", "64")


def build(tree: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`python -m build` of a tree."""
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(out), str(tree)]
    return subprocess.run(command, capture_output=True, text=True, cwd=out)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel built from it."""
    out = tmp_path_factory.mktemp("dist")
    result = build(ROOT, out)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def unpacked_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is unpacked from a zip where there are no links, or checked out so: a text file stands for each."""
    tree = tmp_path_factory.mktemp("zip") / "epo_lightning-main"
    leave = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "runs", "__pycache__", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=leave)
    for path in [path for path in tree.rglob("*") if path.is_symlink()]:
        target = os.readlink(path)
        path.unlink()
        path.write_text(target)
    return tree


def contents(wheel: Path) -> dict[str, bytes]:
    """Every file of a wheel."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name) for name in sorted(file.namelist())}


def test_source_archive_holds_all_that_the_repository_does(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    found = {path.relative_to(ROOT).as_posix() for pattern in IN_SOURCE for path in ROOT.glob(pattern)}
    assert len(found) > 100
    assert found <= names
    assert names >= MODULES | CONFIGS | POLICIES | BESIDE | {
        "pyproject.toml",
        "setup.py",
        "README.md",
        "epo_lightning/py.typed",
    }
    assert not [name for name in names if "__pycache__" in name]


def test_wheel_holds_modules_configurations_policies_pages_and_callbacks(archives: tuple[Path, Path]) -> None:
    names = set(contents(archives[1]))
    assert names >= MODULES | CONFIGS | POLICIES | PAGES
    assert names >= {
        "epo_lightning/py.typed",
        "epo_lightning/callbacks/evolution.py",
        "epo_lightning/export/web/kuka.mjs",
    }
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"epo_lightning", "epo_runtime"}


def test_the_runner_alone_is_a_wheel_that_needs_no_torch(archives: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "epo_runtime", tmp_path / "runner", ignore=shutil.ignore_patterns("__pycache__", "build"))
    result = build(tmp_path / "runner", tmp_path, "--wheel")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    runner, whole = contents(wheel), contents(archives[1])
    modules = {name for name in runner if name.startswith("epo_runtime/")}
    assert modules == {name for name in MODULES if name.startswith("epo_runtime/")}
    assert all(runner[name] == whole[name] for name in modules)
    (metadata,) = [runner[name].decode() for name in runner if name.endswith("METADATA")]
    assert "Requires-Dist: onnxruntime" in metadata
    assert "Requires-Dist: torch" not in metadata


def test_a_tree_without_links_builds_the_same_wheel(
    unpacked_zip: Path, archives: tuple[Path, Path], tmp_path: Path
) -> None:
    result = build(unpacked_zip, tmp_path, "--wheel")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    assert contents(wheel) == contents(archives[1])


@pytest.mark.parametrize(
    ("name", "stands"), [("configs", "a text file"), ("callbacks", "empty"), ("configs", "missing")]
)
def test_a_tree_that_is_not_whole_builds_nothing(name: str, stands: str, unpacked_zip: Path, tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    (tree / "epo_lightning").mkdir(parents=True)
    out.mkdir()
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(unpacked_zip / file, tree)
    for folder in ("configs", "callbacks"):
        shutil.copytree(unpacked_zip / "epo_lightning" / folder, tree / "epo_lightning" / folder)
    shutil.rmtree(tree / "epo_lightning" / name)
    if stands == "a text file":
        (tree / "epo_lightning" / name).write_text("../configs")
    elif stands == "empty":
        (tree / "epo_lightning" / name).mkdir()
    result = build(tree, out, "--wheel")
    assert result.returncode != 0
    said = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("error:")]
    assert len(said) == 1
    assert f"epo_lightning/{name} is {stands}" in said[0]
    assert not list(out.iterdir())


def test_metadata_names_authors_addresses_systems_and_pythons(archives: tuple[Path, Path]) -> None:
    (text,) = (each for name, each in contents(archives[1]).items() if name.endswith("/METADATA"))
    metadata = email.message_from_bytes(text)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert metadata["Author"] == cited["authors"][0]["name"]
    assert metadata["Version"] == cited["version"]
    urls = dict(entry.split(", ") for entry in metadata.get_all("Project-URL", []))
    assert all(url.startswith("https://") for url in urls.values())
    assert urls["Paper"] == cited["references"][0]["url"]
    classifiers = metadata.get_all("Classifier", [])
    for kind in ("Development Status", "Operating System", "Topic", "Programming Language :: Python :: 3.11"):
        assert any(each.startswith(kind) for each in classifiers), kind
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = text.decode().partition("\n\n")[2]
    assert "# epo_lightning" in page
    assert relative_links(page) == []


def relative_links(page: str) -> list[str]:
    """Links and pictures of a page that lead nowhere away from the repository."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", page) if not link.startswith(("https://", "#"))]


def test_pictures_and_links_of_the_readme_are_absolute_once_there_is_an_address() -> None:
    spec = importlib.util.spec_from_file_location("epo_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    readme = (ROOT / "README.md").read_text()
    page = setup.description(readme, "https://example.org/us/epo/")
    assert "](https://example.org/us/epo/raw/HEAD/docs/pictures/quickstart.png)" in page
    assert "](https://example.org/us/epo/blob/HEAD/docs/running.md#resume)" in page
    assert relative_links(page) == []
    assert len(re.findall(r"!\[", page)) == len(re.findall(r"!\[", readme)) > 0
    nowhere = setup.description("![A *film*](a.png) <!-- how -->and [text [1]](b.md), [c](https://c), [d](#d)", None)
    assert nowhere == "*[A *film*]* and text [1], [c](https://c), [d](#d)"


@pytest.fixture(scope="module")
def bin_folder(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a clean environment with the wheel; what it depends on lies where this process has it."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("-packages")]
    (packages / "others.pth").write_text("\n".join(others) + "\n")
    install = ["--no-deps", "--no-index", "--ignore-installed", str(archives[1])]
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", *install]
    subprocess.run(pip, check=True, capture_output=True)
    return folder / "bin"


def start(bin_folder: Path, where: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A program of the clean environment in the folder `where`, away from the clone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    program = str(bin_folder / command[0])
    return subprocess.run([program, *command[1:]], env=environment, cwd=where, capture_output=True, text=True)


def test_the_installed_program_trains_evaluates_and_reports_from_an_empty_folder(
    bin_folder: Path, tmp_path: Path
) -> None:
    where = start(bin_folder, tmp_path, "python", "-c", "import epo_lightning; print(epo_lightning.__file__)")
    assert where.stdout.startswith(str(bin_folder.parent)), where.stderr
    helped = start(bin_folder, tmp_path, "epo-lightning", "--help")
    assert helped.returncode == 0, helped.stderr
    assert all(command in helped.stdout for command in ("fit", "report", "doctor"))
    trained = start(bin_folder, tmp_path, "epo-lightning", *QUICK, *WHOLE_EPISODES)
    assert trained.returncode == 0, trained.stderr
    (run,) = tmp_path.glob("runs/wall_maze/*")
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert str(run.relative_to(tmp_path)) in trained.stdout
    reported = start(bin_folder, tmp_path, "epo-lightning", "report", str(run))
    assert reported.returncode == 0, reported.stderr
    assert list(tmp_path.rglob("*.html"))


def test_the_installed_doctor_finds_all_that_a_training_needs(bin_folder: Path, tmp_path: Path) -> None:
    result = start(bin_folder, tmp_path, "epo-lightning", "doctor")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^\[ok\] torch", result.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_the_installed_wheel_starts_a_worker(bin_folder: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/worker.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "my_sim.py").write_text(code)
    arguments = json.dumps({"python": sys.executable, "factory": "my_sim.py:make"})
    check = ["epo_lightning.envs.check", "epo_lightning.envs.worker.WorkerEnv", "--init_args", arguments]
    result = start(bin_folder, tmp_path, "python", "-m", *check)
    assert result.returncode == 0, result.stderr


def test_every_extra_can_be_added_where_the_wheel_is_installed(bin_folder: Path) -> None:
    # no index is asked: what the hints of the package say works for a wheel that came from a file, too
    extras = list(PROJECT["optional-dependencies"])
    pip = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python")]
    install = ["install", "--no-index", "--dry-run", f"epo-lightning[{','.join(extras)}]"]
    result = subprocess.run([*pip, *install], capture_output=True, text=True, cwd=bin_folder)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert f"already satisfied: epo-lightning[{','.join(sorted(extras))}]" in result.stdout
    assert "does not provide" not in result.stderr  # pip only warns of an extra that is not there
