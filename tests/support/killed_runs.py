"""What `test_kills.py` runs: `python -m tests.support.killed_runs FOLDER CASE`.

A training is killed before each of its file operations in turn, and the same command is given again. Every process is
forked from one that has imported everything, so that it costs no more than its three iterations.
"""

import csv
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import yaml

from epo_lightning.cli.entry import main
from epo_lightning.cli.fit import fit  # noqa: F401  (imported once, before the forks)
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.modules.contents import HISTORY
from epo_lightning.run.checkpoint import read_checkpoint
from tests.support.command_line import TINY, TINY_CEM_RL, TINY_PQL, TINY_SAC
from tests.support.sameness import differences

RUN = "run"
COMMAND = ("fit", "--config", "tiny.yaml", "--config", "case.yaml", "--run_dir", RUN, "--resume")
ENVIRONMENT = {
    "data": {"env": {"class_path": "tests.support.killed_runs.UpAndDown", "init_args": {"max_steps": 3}}},
    "checkpoint": {"every_n_iterations": 2},
}
EVOLUTION = {
    **ENVIRONMENT,
    "trainer": {
        "max_epochs": 3,
        "callbacks+": [
            {"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"},
            {"class_path": "tests.support.talkative.Talkative"},
            {
                "class_path": "epo_lightning.callbacks.ElitePreservation",
                "init_args": {"archive_size": 1, "every_n_env_steps": 64},
            },
            {
                "class_path": "epo_lightning.callbacks.GeneticEvolution",
                "init_args": {
                    "every_n_env_steps": 64, "warmup_env_steps": 0, "num_elites": 1, "spread_threshold": 0.0,
                },
            },
        ],
    },
}  # fmt: skip
REPLAY = {**ENVIRONMENT, "trainer": {"max_epochs": 3}}
POPULATION = {
    **ENVIRONMENT,
    "trainer": {
        "max_epochs": 3,
        "callbacks+": [
            {
                "class_path": "epo_lightning.callbacks.PopulationBasedTraining",
                "init_args": {"interval_steps": 16, "start_after": 0, "initial_delay": 0, "rule": "margins"},
            },
        ],
    },
}  # fmt: skip
GENERATIONS = {
    **REPLAY, "data": {"env": {"class_path": "tests.support.killed_runs.UpAndDown", "init_args": {"max_steps": 4}}}
}  # fmt: skip
"""Episodes end when it is looked whether a generation is over."""
CASES = {
    "evolution": (TINY, EVOLUTION, 1),
    "replay": (TINY_SAC, REPLAY, 4),
    "waiting": (TINY_PQL, REPLAY, 8),
    "population": ("algorithm: pbt" + TINY.replace("gene_dim: 3, ", ""), POPULATION, 5),
    "cem_rl": (TINY_CEM_RL, GENERATIONS, 8),
}
"""By name: the run, what is laid over it, and every how manyth of its operations it is killed at."""


class UpAndDown(Probe):
    """Rewards of the second iteration are worse, those of the third better: the best one changes there."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int) -> None:
        super().__init__(num_envs, device, seed, max_steps)
        self.age = 0

    def step(self, actions: torch.Tensor) -> StepResult:
        result = super().step(actions)
        bonus = (0.0, -5.0, 5.0)[self.age // 4]
        self.age += 1
        return result._replace(reward=result.reward + bonus)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "age": self.age}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state.items() if key != "age"})
        self.age = state["age"]


_CHANGES = ("os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.copyfile")


def changed_paths(event: str, args: tuple[Any, ...]) -> Iterator[str]:
    """The paths that an audited operation is about to change."""
    if event == "open" and isinstance(args[0], str | Path) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        yield str(args[0])
    elif event in _CHANGES:
        yield from (str(path) for path in args[:2] if isinstance(path, str | Path))


def killer(last: int | None, count: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that kills this process before the `last`-th change in the run folder (0 is the first)."""
    number = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal number
        if any(RUN in Path(path).parts for path in changed_paths(event, args)):
            if number == last:
                os.kill(os.getpid(), signal.SIGKILL)
            number += 1
            with open(count, "w") as file:
                file.write(str(number))

    return hook


def run(folder: Path, last: int | None = None) -> int:
    """The command in a process of its own in `folder`; how it ended, as `os.waitpid` says."""
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        out = os.open("out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.addaudithook(killer(last, folder / "count.txt"))
        code = 99
        try:
            code = main(list(COMMAND))
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def contents(folder: Path) -> dict[str, Any]:
    """What a run folder says, without what a clock measured, and without how often it was begun and continued."""
    found: dict[str, Any] = {}
    for path in sorted((folder / RUN).rglob("*")):
        name = str(path.relative_to(folder / RUN))
        if path.suffix == ".ckpt":
            found[name] = read_checkpoint(path)
            assert found[name].pop(HISTORY)["seconds"] > 0
        elif path.name == "run.json":
            record = json.loads(path.read_text())
            found[name] = {
                key: record[key] for key in record.keys() - {"started", "lineage", "earlier", "working_folder"}
            }
        elif path.name == "summary.json":
            told = json.loads(path.read_text())
            found[name] = {
                key: told[key] for key in told.keys() - {"ended", "seconds", "continuations", "env_steps_per_second"}
            }
        elif path.name == "summary.txt":
            found[name] = path.read_text().splitlines()[0]
        elif path.name == "metrics.csv":
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            timed = ("time/", "charts/sps")
            found[name] = [{key: row[key] for key in row if not key.startswith(timed)} for row in rows]
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def prepare(folder: Path, case: str) -> Path:
    """An empty place for a run."""
    folder.mkdir()
    tiny, over, _ = CASES[case]
    (folder / "tiny.yaml").write_text(tiny)
    (folder / "case.yaml").write_text(yaml.safe_dump(over))
    return folder


def scenario(root: Path, case: str, kills: tuple[int, ...]) -> tuple[tuple[int, ...], list[str]]:
    """Kill, give the command again (and kill that), until it may end: what differs from the run that nobody killed."""
    folder = prepare(root / "-".join(map(str, kills)), case)
    for last in kills:
        if (status := run(folder, last)) != signal.SIGKILL:
            return kills, [f"was not killed, but ended with {status}"]
    if run(folder) != 0:
        return kills, ["did not continue: " + (folder / "out.txt").read_text()[-500:]]
    return kills, differences(contents(root / "whole"), contents(folder))


def main_process(root: Path, case: str) -> None:
    """All of it; prints the number of operations, and the differences per scenario."""
    torch.set_num_threads(1)
    whole = prepare(root / "whole", case)
    assert run(whole) == 0, (whole / "out.txt").read_text()
    operations = int((whole / "count.txt").read_text())
    # A second kill counts from the start of the second process, whose operations before training are fewer than 8
    stride = CASES[case][2]
    scenarios: list[tuple[int, ...]] = [(n,) for n in range(0, operations, stride)]
    scenarios += [(n, 3 + n % 5) for n in range(0, operations - 9, 5 * stride)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        results = list(pool.map(scenario, [root] * len(scenarios), [case] * len(scenarios), scenarios))
    faults = {"-".join(map(str, kills)): found for kills, found in results if found}
    files = contents(whole)
    best = files["checkpoints/best.ckpt"]["callbacks"]["RunCheckpoints"]["best_iteration"]
    generations = len(files.get("lineage.jsonl", b"").splitlines())
    remembered = files["checkpoints/last.ckpt"]["ranks"][0].get("replay", {})
    replay = {name: len(remembered[name]) for name in ("rows", "waiting") if name in remembered}
    told = {"files": sorted(files), "best": best, "generations": generations, "replay": replay, "faults": faults}
    print(json.dumps({"operations": operations, "scenarios": len(scenarios), **told}))


if __name__ == "__main__":
    main_process(Path(sys.argv[1]), sys.argv[2])
