"""Command lines on several ranks, one after another in the same processes: `python -m tests.support.on_ranks`.

A process reads command lines from its input, one JSON list a line, and prints the exit code of each behind `code`.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from epo_lightning.cli.entry import main
from tests.support.sockets import free_port

_ROOT = Path(__file__).parents[2]


class Ended:
    """What became of the command lines on one rank."""

    def __init__(self, out: str, err: str) -> None:
        self.out, self.err = out, err
        self.codes = [int(line.split()[1]) for line in out.splitlines() if line.startswith("code ")]


def torchrun_environment(rank: int, ranks: int, port: int, nodes: int = 1) -> dict[str, str]:
    """What torchrun tells a process."""
    local = ranks // nodes
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank % local),
        "GROUP_RANK": str(rank // local),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(local),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }


def on_ranks(
    commands: Sequence[Sequence[object]], ranks: int = 2, timeout: float = 200, *, last: Sequence[Sequence[object]] = ()
) -> list[Ended]:
    """Run all of `commands` on so many ranks, started as torchrun does; of every rank, what it printed.

    Args:
        commands: What all do.
        ranks: How many.
        timeout: Seconds for all of it.
        last: What each of them does then.
    """
    port = free_port()
    words = [
        "".join(json.dumps([str(word) for word in command]) + "\n" for command in [*commands, *last[rank : rank + 1]])
        for rank in range(ranks)
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.on_ranks"],
            env={
                **os.environ,
                **torchrun_environment(rank, ranks, port),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    try:
        for process, lines in zip(processes, words, strict=True):
            assert process.stdin is not None
            process.stdin.write(lines)
            process.stdin.close()
            process.stdin = None
        return [Ended(*process.communicate(timeout=timeout)) for process in processes]
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    for line in sys.stdin.read().splitlines():
        print("code", main(json.loads(line)), flush=True)
