"""An LSTM over a rollout's sequences: one operation of autograd beside a cell per step, forward and backward.

    python benchmarks/lstm.py

The gene is an input that learns: the cell takes it beside every observation, the sequence adds its part of the gates
to all steps, as `LSTMTrunk` does. Both sides take turns in one process and thread, on the same weights, sequences,
genes and resets; processor time, medians. Bytes are what autograd keeps for the backward pass, each storage once.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor, nn

from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.learner.lstm import lstm_sequence

GENE = 32
SIZES = {  # rows, steps, observation, units, repeats
    "64 x 16, 100 -> 64": (64, 16, 100, 64, 40),
    "256 x 16, 200 -> 256": (256, 16, 200, 256, 10),
    "256 x 16, 200 -> 768 (the paper's units)": (256, 16, 200, 768, 5),
}
Side = Callable[[nn.LSTMCell, Tensor, Tensor, Tensor], Tensor]


def by_cell(cell: nn.LSTMCell, obs: Tensor, genes: Tensor, resets: Tensor) -> Tensor:
    """Hidden states (T, N, H)."""
    x = torch.cat([obs, genes.expand(*obs.shape[:-1], -1)], dim=-1)
    hidden = state = x.new_zeros(x.shape[1], cell.hidden_size)
    hiddens = []
    for step, reset in zip(x, resets, strict=True):
        hidden, state = (part.masked_fill(reset[:, None], 0.0) for part in (hidden, state))
        hidden, state = cell(step, (hidden, state))
        hiddens.append(hidden)
    return torch.stack(hiddens)


def by_sequence(cell: nn.LSTMCell, obs: Tensor, genes: Tensor, resets: Tensor) -> Tensor:
    """The same."""
    zeros, known = obs.new_zeros(obs.shape[1], cell.hidden_size), obs.shape[-1]
    own = nn.functional.linear(genes, cell.weight_ih[:, known:], cell.bias_ih + cell.bias_hh)
    gates = nn.functional.linear(obs, cell.weight_ih[:, :known]) + own
    return lstm_sequence(gates, cell.weight_hh, zeros, zeros, resets)[0]


def kept_bytes(compute: Callable[[], Tensor]) -> int:
    """What autograd keeps of it."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(storages.values())


def measure(rows: int, steps: int, known: int, units: int, repeats: int) -> dict[str, float]:
    """Milliseconds and MiB of both sides."""
    cell, genes = nn.LSTMCell(known + GENE, units), torch.randn(rows, GENE, requires_grad=True)
    obs, resets = torch.randn(steps, rows, known), torch.rand(steps, rows) < 0.01
    sides: dict[str, Side] = {"cell": by_cell, "sequence": by_sequence}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for name, side in islice(cycle(sides.items()), 2 * (repeats + 1)):
        cell.zero_grad()
        start = time.process_time()
        side(cell, obs, genes, resets).square().mean().backward()
        seconds[name].append(time.process_time() - start)
    told = {f"{name}_ms": round(1e3 * statistics.median(values[1:]), 2) for name, values in seconds.items()}
    told["ratio"] = round(told["cell_ms"] / told["sequence_ms"], 3)
    for name, side in sides.items():
        told[f"{name}_kept_mib"] = round(kept_bytes(lambda side=side: side(cell, obs, genes, resets)) / 2**20, 1)  # type: ignore[misc]
    return told


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    results = {name: measure(*size) for name, size in SIZES.items()}
    for name, told in results.items():
        print(
            f"{name:42} cell {told['cell_ms']:8.1f} ms, sequence {told['sequence_ms']:8.1f} ms: {told['ratio']:.2f}x;"
            f" kept {told['cell_kept_mib']:.1f} and {told['sequence_kept_mib']:.1f} MiB"
        )
    print(f"peak memory of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
