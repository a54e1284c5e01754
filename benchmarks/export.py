"""How large exported policies are, and how long one action takes: onnxruntime through `epo_runtime` beside torch.

    python benchmarks/export.py                         # three networks of this package, with random weights
    python benchmarks/export.py --out latency.json

One thread, one observation at a time, as a robot asks; both sides are interleaved in one process. Figures are medians
of single calls, each with its reading and checking of the observation.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from epo_lightning import Policy
from epo_lightning.envs.base import EnvSpec
from epo_lightning.envs.signals import Signal, Signals
from epo_lightning.export.formats import write
from epo_lightning.export.manifest import manifest, population_of
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.modules.identity import Identity
from epo_runtime import Policy as Exported


class Size(NamedTuple):
    """A network of a packaged configuration."""

    obs_dim: int
    act_dim: int
    agents: int
    settings: NetworkSettings


SIZES = {
    "wall_maze": Size(2, 2, 16, NetworkSettings(gene_dim=16, hidden=(64, 64))),
    "regrasp_cube": Size(99, 23, 8, NetworkSettings(gene_dim=16, hidden=(256, 256, 128))),
    "two_arm": Size(196, 46, 64, NetworkSettings(gene_dim=32, lstm_units=768, hidden=(768, 512, 256))),
}


def export(folder: Path, size: Size) -> LatentActorCritic:
    """Write a network with random weights; returns it."""
    network = LatentActorCritic(size.obs_dim, size.act_dim, size.agents, size.settings).eval()
    module = network.standalone(0, discrete=False).eval()
    write(module, "onnx", size.obs_dim, 18, folder / "policy.onnx", {})
    spec = EnvSpec("Benchmark", 1, size.obs_dim, size.act_dim)
    signals = Signals((Signal("observation", size.obs_dim),), (Signal("action", size.act_dim),))
    file = {"name": "policy.onnx", "format": "onnx"}
    text = manifest(module, file, spec, signals, population_of(module, network, 0), {})
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    return network


def timed(act: Callable[[Any], object], obs: np.ndarray, seconds: list[float]) -> None:
    """Act once, and note the time."""
    start = time.perf_counter()
    act(obs)
    seconds.append(time.perf_counter() - start)


def measure(name: str, calls: int) -> dict[str, Any]:
    """Size and times of one network."""
    size = SIZES[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        network = export(folder, size)
        begin = time.perf_counter()
        exported = Exported.load(folder)
        loading = time.perf_counter() - begin
        kilobytes = {each.name: each.stat().st_size / 1024 for each in folder.iterdir()}
    with_torch = Policy(network, Identity("epo", "Benchmark", size.obs_dim, size.act_dim, False, {}))
    seconds: dict[str, list[float]] = {"onnxruntime": [], "torch": []}
    for obs in np.random.default_rng(0).normal(size=(calls, size.obs_dim)).astype(np.float32):
        timed(exported.act, obs, seconds["onnxruntime"])
        timed(with_torch.act, obs, seconds["torch"])
    told: dict[str, Any] = {"kilobytes": {each: round(number, 1) for each, number in kilobytes.items()}}
    told["load_ms"] = round(1e3 * loading, 1)
    for side, values in seconds.items():
        told[f"{side}_us"] = round(1e6 * float(np.median(values[calls // 10 :])), 1)
    return told


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description="Size and latency of exported policies.")
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON, too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {name: measure(name, given.calls) for name in SIZES}
    print(f"{'':14}{'policy.onnx':>14}{'load':>10}{'onnxruntime':>14}{'torch':>12}")
    for name, told in results.items():
        onnx, load = told["kilobytes"]["policy.onnx"], told["load_ms"]
        times = f"{told['onnxruntime_us']:>11.0f} us{told['torch_us']:>9.0f} us"
        print(f"{name:14}{onnx:>10.0f} KiB{load:>7.0f} ms{times}")
    if given.out:
        given.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
