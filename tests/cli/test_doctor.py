"""`doctor`: what it finds on a machine that is made up, and that it says so in one line each."""

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epo_lightning.cli.doctor import finding, interpreters, machine, report
from epo_lightning.cli.doctor.finding import Finding, Gpu
from epo_lightning.cli.doctor.interpreters import examine_interpreter, judge_interpreter

ADA, HOPPER = Gpu("RTX 4090", 8.9), Gpu("H100", 9.0)
LINES = ["epo-lightning", "torch", "lightning", "mujoco", "mujoco-warp", "gymnasium", "wandb", "tensorboard"]
LINES += ["pictures", "video", "viser"]


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """As if these packages were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name in missing else find(name))
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)


class TestTheReport:
    def test_a_line_for_each_part_and_0_where_the_default_path_works(self, cli: Callable[..., Any]) -> None:
        outcome = cli("doctor")
        assert outcome.code == 0, outcome.out
        assert [line[5:].split()[0] for line in outcome.out.splitlines()] == LINES
        assert all(line.startswith(("[ok] ", "[--] ")) for line in outcome.out.splitlines())
        assert outcome.err == ""

    @pytest.mark.parametrize(
        ("module", "name", "remedy"),
        [("mujoco", "mujoco", "pip install --force-reinstall mujoco"), ("torch", "torch", "torch")],
    )
    def test_1_where_it_does_not(
        self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, module: str, name: str, remedy: str
    ) -> None:
        without(monkeypatch, module)
        outcome = cli("doctor")
        assert outcome.code == 1
        line = next(line for line in outcome.out.splitlines() if line[5:].split()[0] == name)
        assert line.startswith("[!!] ")
        assert line.endswith(f"-> pip install --force-reinstall {name}")
        assert len(outcome.out.splitlines()) == len(LINES)

    def test_what_is_missing_but_not_needed_leaves_it_at_0(
        self, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without(monkeypatch, "mujoco_warp", "gymnasium", "wandb", "tensorboard", "PIL", "viser")
        outcome = cli("doctor")
        assert outcome.code == 0
        found = {line[5:].split()[0]: line for line in outcome.out.splitlines()}
        for name, extra in {"mujoco-warp": "warp", "gymnasium": "gymnasium", "viser": "viewer"}.items():
            assert found[name].startswith("[--] ")
            assert found[name].endswith(f"-> pip install 'epo-lightning[{extra}]'")
        assert "pillow is not installed" in found["video"]
        assert found["wandb"].endswith("-> pip install 'epo-lightning[wandb]'")

    def test_a_remedy_follows_its_finding(self) -> None:
        findings = [Finding("long name", "ok", "1.0"), Finding("x", "missing", "not there", "pip install x")]
        assert report(findings) == "[ok] long name  1.0\n[--] x          not there -> pip install x"

    def test_other_arguments_are_refused_in_one_line(self, cli: Callable[..., Any]) -> None:
        outcome = cli("doctor", "--pyton", "x")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err == (
            "error: doctor: --pyton means nothing here (did you mean --python?); it takes --python PATH [PATH ...]\n"
        )

    def test_it_needs_no_command_line_of_a_training(self) -> None:
        code = "import sys; from epo_lightning.cli.entry import main; main(['doctor'])\n"
        code += "print([m for m in ('jsonargparse', 'wandb', 'gymnasium', 'warp', 'viser') if m in sys.modules])"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[-1] == "[]"


class TestDevices:
    def nvidia_smi(self, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def test_the_driver_names_the_gpus(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nvidia_smi(
            tmp_path, monkeypatch, "echo 'NVIDIA H100 80GB HBM3, 9.0, 570.86.15'; echo 'NVIDIA L4, 8.9, 570.86.15'"
        )
        own = "570.86.15"
        assert finding.find_gpus() == [Gpu("NVIDIA H100 80GB HBM3", 9.0, own), Gpu("NVIDIA L4", 8.9, own)]

    def test_an_old_driver_does_not_know_all_that_is_asked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asks = "case $1 in *compute_cap*) echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2;; esac"
        self.nvidia_smi(tmp_path, monkeypatch, f"{asks}\necho 'Tesla V100, 418.87.00'")
        (old,) = finding.find_gpus()
        assert (old.name, old.driver) == ("Tesla V100", "418.87.00")
        assert math.isnan(old.capability)

    @pytest.mark.parametrize("answer", ["exit 9", "echo 'No devices were found'", "echo 'X, [N/A], 1'"])
    def test_a_driver_that_does_not_work_has_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
    ) -> None:
        self.nvidia_smi(tmp_path, monkeypatch, answer)
        assert finding.find_gpus() == []

    def test_warp_wants_a_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "find_spec", lambda name: object())
        monkeypatch.setattr(machine, "version", lambda name: "4.0.0")
        slow = Finding("mujoco-warp", "ok", "4.0.0, no NVIDIA GPU: slow on the CPU", "use physics: mujoco")
        assert machine.check_warp([]) == slow
        assert machine.check_warp([HOPPER]) == Finding("mujoco-warp", "ok", "4.0.0, H100")

    def test_a_torch_that_does_not_see_the_gpu_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", None)
        assert machine.check_torch([]).remedy == ""
        own = f"torch {torch.__version__} is built for the CPU and cannot use the RTX 4090"
        assert machine.check_torch([ADA]).remedy == f"{own}: install torch for CUDA (pytorch.org/get-started)"


class TestWandb:
    @pytest.fixture(autouse=True)
    def _clean(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("wandb")
        for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        self.netrc = tmp_path / "netrc"
        monkeypatch.setenv("NETRC", str(self.netrc))

    def test_it_is_not_logged_in_without_a_key(self) -> None:
        assert machine.check_wandb().remedy == "wandb login, or WANDB_MODE=offline"
        self.netrc.write_text("machine elsewhere.org login user password secret\n")
        assert machine.check_wandb().state == "missing"

    def test_a_key_is_seen_and_not_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.netrc.write_text("machine api.wandb.ai login user password secret\n")
        assert machine.check_wandb().detail.endswith("logged in")
        monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.my-lab.org:8080/")
        assert machine.check_wandb().state == "missing"
        monkeypatch.setenv("WANDB_API_KEY", "secret")
        found = machine.check_wandb()
        assert found.state == "ok"
        assert "secret" not in report([found])

    def test_offline_needs_no_account(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert machine.check_wandb().state == "ok"


def test_a_machine_that_cannot_draw_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from epo_lightning.physics import drawing

    def refuse(*_: int) -> None:
        raise ValueError("this machine cannot draw; on Debian or Ubuntu: apt-get install libegl1 (X)")

    monkeypatch.setattr(drawing, "offscreen_context", refuse)
    expected = Finding(
        "pictures",
        "missing",
        "this machine cannot draw (play, VideoRecorder)",
        "on Debian or Ubuntu: apt-get install libegl1 (X)",
    )
    assert machine.check_drawing() == expected


GYM = {"python": "3.8.19", "numpy": "1.23.5", "torch": "2.4.1", "libpython": True}
GYM |= {"simulators": ["isaacgym"], "tasks": ["isaacgymenvs"]}
LAB = {"python": "3.11.7", "numpy": "2.1.0", "torch": "2.7.0", "libpython": True}
LAB |= {"simulators": ["isaaclab"], "tasks": ["isaaclab_tasks"]}


class TestJudgement:
    @pytest.mark.parametrize(
        ("facts", "gpus", "state", "remedy"),
        [
            (GYM, [ADA], "ok", ""),
            (GYM, [], "broken", "needs a GPU"),
            (GYM, [HOPPER], "broken", "before 2022"),
            (GYM, [HOPPER, ADA], "ok", ""),
            (GYM | {"libpython": False}, [ADA], "broken", "libpython3.8"),
            (GYM | {"python": "3.10.2"}, [ADA], "broken", "Python 3.8"),
            (GYM | {"tasks": []}, [ADA], "broken", "install isaacgymenvs there"),
            (LAB, [HOPPER], "ok", ""),
            (LAB | {"libpython": False}, [HOPPER], "ok", ""),
            (LAB, [], "ok", ""),
            (LAB | {"simulators": ["mjlab"], "tasks": ["mjlab"]}, [], "ok", ""),
        ],
    )
    def test_of_a_simulator(self, facts: dict[str, Any], gpus: list[Gpu], state: str, remedy: str) -> None:
        interpreter, simulator = judge_interpreter("py", facts, gpus)
        assert interpreter.state == "ok"
        assert simulator.name.strip() == facts["simulators"][0]
        assert simulator.state == state
        assert remedy in simulator.remedy
        assert bool(remedy) == bool(simulator.remedy)

    @pytest.mark.parametrize(
        ("facts", "state", "remedy"),
        [
            (GYM | {"python": "3.7.9"}, "broken", "Python 3.8 or newer"),
            (GYM | {"numpy": None}, "broken", "py -m pip install numpy"),
            (GYM | {"simulators": [], "tasks": []}, "missing", "docs/isaac_gym.md"),
        ],
    )
    def test_of_an_interpreter(self, facts: dict[str, Any], state: str, remedy: str) -> None:
        (finding,) = judge_interpreter("py", facts, [ADA])
        assert finding.state == state
        assert remedy in finding.remedy


class TestInterpreters:
    def test_its_simulators_are_found_without_importing_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("isaaclab", "isaaclab_tasks", "mjlab"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        findings = examine_interpreter(sys.executable, [ADA])
        assert [finding.name.strip() for finding in findings] == [sys.executable, "isaaclab", "mjlab"]
        assert all(finding.state == "ok" for finding in findings)
        version = ".".join(map(str, sys.version_info[:3]))
        assert findings[0].detail.startswith(f"Python {version}, numpy ")

    def fake(self, folder: Path, lines: str) -> str:
        path = folder / "python"
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return str(path)

    def test_what_is_no_python_is_told_from_its_last_words(self, tmp_path: Path) -> None:
        (finding,) = examine_interpreter(self.fake(tmp_path, "echo first >&2; echo 'no licence' >&2; exit 3"), [])
        assert finding.state == "broken"
        assert finding.detail == "is no Python that works: no licence"

    def test_what_does_not_exist_is_told(self) -> None:
        (finding,) = examine_interpreter("/no/such/python", [])
        assert finding.detail == "/no/such/python does not exist"
        assert "name the simulator's interpreter" in finding.remedy

    def test_what_hangs_is_left_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(interpreters, "PATIENCE", 1)
        (finding,) = examine_interpreter(self.fake(tmp_path, "exec sleep 30"), [])
        assert finding.detail == "has not answered for 1 s"

    def test_a_login_message_does_no_harm(self, tmp_path: Path) -> None:
        python = self.fake(tmp_path, f"echo 'Welcome!'; exec '{sys.executable}' \"$@\"")
        assert examine_interpreter(python, [ADA])[0].detail.startswith("Python 3")

    def test_a_torch_that_cannot_be_imported_here_does_not_keep_it_from_looking(self, tmp_path: Path) -> None:
        (tmp_path / "torch.py").write_text("raise ImportError('broken')")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
        command = [sys.executable, "-m", "epo_lightning", "doctor", "--python", sys.executable]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert (result.returncode, result.stderr) == (1, "")
        assert result.stdout.splitlines()[-1].startswith(f"[--] {sys.executable} ")

    def test_the_command_line_takes_several(self, cli: Callable[..., Any]) -> None:
        outcome = cli("doctor", "--python", "/no/such", sys.executable, "--python", "/nor/this")
        assert outcome.code == 0  # the default path works
        lines = outcome.out.splitlines()[len(LINES) :]
        names = ["/no/such", sys.executable, "/nor/this"]
        assert [line[5:].startswith(f"{name} ") for line, name in zip(lines, names, strict=True)] == [True] * 3
        assert [line[:4] for line in lines] == ["[!!]", "[--]", "[!!]"]
