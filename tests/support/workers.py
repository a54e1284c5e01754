"""Workers that run the adapters of `tests/envs/stand_in/adapters/cart.py`, or one of the package's own."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml

from epo_lightning.envs.worker import WorkerEnv, remote
from epo_lightning.envs.worker.remote.factories import FACTORIES

STAND_IN = Path(__file__).parents[1] / "envs" / "stand_in"
CART = str(STAND_IN / "adapters" / "cart.py")
REMOTE = remote.__path__[0]
CPU = torch.device("cpu")
WORKER = "epo_lightning.envs.worker.WorkerEnv"


def cart_module() -> ModuleType:
    """The adapters, in this process."""
    spec = importlib.util.spec_from_file_location("cart", CART)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def closed_workers() -> Iterator[Callable[..., WorkerEnv]]:
    """For a fixture `make(callable, n, **options)`: environments of `cart.py`, closed in the end."""
    made: list[WorkerEnv] = []

    def build(name: str, n: int = 4, *, seed: int = 3, python: str = sys.executable, **options: Any) -> WorkerEnv:
        factory = name if name in FACTORIES or ":" in name else f"{CART}:{name}"
        timeouts = {key: options.pop(key) for key in ("start_timeout", "step_timeout") if key in options}
        made.append(WorkerEnv(n, CPU, seed, python, factory, options, **timeouts))
        return made[-1]

    yield build
    for env in made:
        env.close()


def write_case(name: str, options: dict[str, Any], factory: str = "", python: str = sys.executable) -> None:
    """The `case.yaml` of an adapter of `cart.py`, or of another factory."""
    args = {"python": python, "factory": factory or f"{CART}:{name}", "options": options}
    Path("case.yaml").write_text(yaml.safe_dump({"data": {"env": {"class_path": WORKER, "init_args": args}}}))
