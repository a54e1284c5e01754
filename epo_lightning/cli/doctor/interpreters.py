"""What a worker with another interpreter could run: numpy, Isaac Gym, Isaac Lab, mjlab."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from epo_lightning.cli.doctor.finding import PATIENCE, Finding, Gpu, one_line
from epo_lightning.envs.interpreter import find_python

_SIMULATORS = {"isaacgym": "isaacgymenvs", "isaaclab": "isaaclab_tasks", "mjlab": "mjlab"}
"""What a factory of `WorkerEnv` needs, and the package with its tasks."""
_HOPPER = 9.0
"""Compute capability of the first GPUs that came out after Isaac Gym."""
_SHOWN = 160
"""Characters of an interpreter's last words."""

_SCRIPT = """
import glob, json, os, sys, sysconfig
from importlib.util import find_spec
def found(name):
    try:
        return find_spec(name) is not None
    except Exception:
        return False
def version(name):
    try:
        from importlib.metadata import version
        return version(name)
    except Exception:
        return "?" if found(name) else None
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
places = [sysconfig.get_config_var("LIBDIR") or "", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib"]
print("doctor: " + json.dumps({
    "python": "%d.%d.%d" % sys.version_info[:3],
    "numpy": version("numpy"),
    "torch": version("torch"),
    "simulators": [name for name in %SIMULATORS% if found(name)],
    "tasks": [name for name in %TASKS% if found(name)],
    "libpython": any(os.path.exists(os.path.join(place, name)) for place in places),
}))
"""


def examine_interpreter(python: str, gpus: Sequence[Gpu]) -> list[Finding]:
    """What a worker with that interpreter could run: a line for itself and one for each simulator that it has.

    Args:
        python: As the user would write it under `data.env.init_args.python`.
        gpus: Of this machine.
    """
    try:
        path = find_python(python)
    except ValueError as error:
        detail, _, remedy = str(error).partition(": ")[2].partition("; ")
        return [Finding(python, "broken", detail, remedy)]
    script = _SCRIPT.replace("%SIMULATORS%", repr([*_SIMULATORS])).replace("%TASKS%", repr([*_SIMULATORS.values()]))
    try:
        ran = subprocess.run([path, "-"], input=script, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return [Finding(python, "broken", f"has not answered for {PATIENCE} s", "name another interpreter")]
    except (OSError, UnicodeDecodeError) as error:
        return [Finding(python, "broken", f"does not run: {one_line(error)}", "name another interpreter")]
    answers = [line for line in ran.stdout.splitlines() if line.startswith("doctor: ")]
    if not answers:
        last = (ran.stderr.strip() or ran.stdout.strip() or "no answer").splitlines()[-1][-_SHOWN:]
        return [Finding(python, "broken", f"is no Python that works: {last}", "name another interpreter")]
    return judge_interpreter(python, json.loads(answers[-1].removeprefix("doctor: ")), gpus)


def judge_interpreter(python: str, facts: dict[str, Any], gpus: Sequence[Gpu]) -> list[Finding]:
    """What the facts about an interpreter mean; see `examine_interpreter`."""
    own = tuple(int(part) for part in facts["python"].split("."))
    what = f"Python {facts['python']}, numpy {facts['numpy']}, torch {facts['torch']}"
    if own < (3, 8):
        return [Finding(python, "broken", what, "a worker needs Python 3.8 or newer")]
    if facts["numpy"] is None:
        return [Finding(python, "broken", what, f"{python} -m pip install numpy")]
    if not facts["simulators"]:
        remedy = "install a simulator there: docs/isaac_gym.md, docs/isaac_lab_and_mjlab.md"
        return [Finding(python, "missing", f"{what}, no simulator but your own", remedy)]
    return [Finding(python, "ok", what), *(_judge(simulator, own, facts, gpus) for simulator in facts["simulators"])]


def _judge(simulator: str, own: tuple[int, ...], facts: dict[str, Any], gpus: Sequence[Gpu]) -> Finding:
    """One simulator of an interpreter."""
    tasks, name = _SIMULATORS[simulator], f"  {simulator}"
    device = gpus[0].name if gpus else "no NVIDIA GPU"
    if tasks not in facts["tasks"]:
        return Finding(name, "broken", f"without {tasks}", f"install {tasks} there")
    if not gpus and simulator == "isaacgym":
        return Finding(name, "broken", device, "it needs a GPU")
    if not gpus and simulator == "isaaclab":
        return Finding(name, "ok", f"{device}: version 3 on Newton only, and slow")
    if simulator == "isaacgym":
        if own >= (3, 9):
            return Finding(name, "broken", f"Python {facts['python']}", "it needs Python 3.8")
        if not facts["libpython"]:
            library = f"libpython{own[0]}.{own[1]}"
            return Finding(name, "broken", f"no {library}.so.1.0", f"apt-get install {library}, or take conda's Python")
        if all(gpu.capability >= _HOPPER for gpu in gpus):
            detail = f"{device}, of compute capability {gpus[0].capability:g}, is newer than Isaac Gym"
            return Finding(name, "broken", detail, "take a GPU of before 2022, or physics: warp")
    return Finding(name, "ok", device)
