"""Products of matrices as torch makes them beside oneDNN's, forward and backward, on one thread.

    python -m benchmarks.products --out benchmarks/results/products.json

`epo_lightning.learner.products` takes oneDNN on an AMD processor, for products of 2^24 multiplications or more. Both
sides take turns in one process, on the same numbers; processor time, medians. A forward pass has one product, a
backward pass two. The last row is a whole network: one step on 16,384 samples of 100 numbers through [512, 256, 128].
"""

import argparse
import json
import statistics
import time
from itertools import cycle, islice, pairwise
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

from epo_lightning.cli.process_settings import keep_freed_memory
from epo_lightning.learner import products

SIZES = [  # rows, inputs, outputs
    (256, 64, 64),
    (1024, 100, 512),
    (1024, 512, 256),
    (16384, 100, 512),
    (16384, 512, 256),
    (16384, 256, 128),
    (16384, 128, 23),
]
NETWORK = [100, 512, 256, 128]


def milliseconds(layers: list[nn.Module], x: Tensor, repeats: int) -> dict[str, float]:
    """Of forward and backward pass through the layers, by each library."""
    seconds: dict[str, list[float]] = {"torch": [], "oneDNN": []}
    for name in islice(cycle(seconds), 2 * (repeats + 1)):
        with mock.patch.object(products, "ONEDNN", name == "oneDNN"), mock.patch.object(products, "LEAST", 0):
            start = time.process_time()
            products.through(layers, x).square().mean().backward()
            seconds[name].append(time.process_time() - start)
    return {f"{name}_ms": round(1e3 * statistics.median(values[1:]), 3) for name, values in seconds.items()}


def measure(rows: int, widths: list[int], repeats: int, *, activations: bool) -> dict[str, float]:
    """Milliseconds, and GFLOP/s of the products: three for each layer but the first, whose input needs no gradient."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), *([nn.ELU()] if activations else [])]
    x = torch.randn(rows, widths[0], requires_grad=not activations)
    told = milliseconds(layers, x, repeats)
    sizes = [rows * inputs * outputs for inputs, outputs in pairwise(widths)]
    flops = 2 * (3 * sum(sizes) - (sizes[0] if activations else 0))
    told |= {f"{name}_gflops": round(flops / told[f"{name}_ms"] / 1e6, 1) for name in ("torch", "oneDNN")}
    told["ratio"] = round(told["torch_ms"] / told["oneDNN_ms"], 3)
    return told


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON, too")
    given = parser.parse_args()
    if not products.ONEDNN:
        print("not an AMD processor, or torch without oneDNN: the learner leaves all products to torch here")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    results = {
        f"{rows:,} x {inputs} -> {outputs}": measure(rows, [inputs, outputs], 30, activations=False)
        for rows, inputs, outputs in SIZES
    }
    results["a step of [512, 256, 128]"] = measure(16384, NETWORK, 12, activations=True)
    for name, told in results.items():
        print(
            f"{name:26} torch {told['torch_ms']:8.2f} ms ({told['torch_gflops']:5.1f} GFLOP/s), oneDNN"
            f" {told['oneDNN_ms']:8.2f} ms ({told['oneDNN_gflops']:5.1f} GFLOP/s): {told['ratio']:.2f}x"
        )
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
