"""Small trainings from a replay buffer, whichever algorithm makes them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.classic import Pendulum
from epo_lightning.modules.data import RolloutDataModule
from tests.support import training


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small wait for a second thread, if the machine is busy for longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings_of(groups: list[tuple[Any, dict[str, Any]]], changes: dict[str, Any]) -> list[Any]:
    """The settings of a module: of each class with these small values those of `changes` that are its own."""
    chosen = []
    for kind, small in groups:
        mine = {name: value for name, value in changes.items() if name in kind.__dataclass_fields__}
        chosen.append(kind(**(small | mine)))
    return chosen


def fit(*arguments: Any, **changes: Any) -> L.Trainer:
    """As `training.fit`, from the same initial weights."""
    torch.manual_seed(0)
    return training.fit(*arguments, **changes)


def data(env: Callable[..., VectorEnv] = Pendulum, num_envs: int = 8, **arguments: Any) -> RolloutDataModule:
    """Eight pendulums, or other environments."""
    return RolloutDataModule(lambda n, device, seed: env(n, device, seed, **arguments), num_envs)


def weights(trained: nn.Module, part: str) -> list[Tensor]:
    """Copies of everything whose name begins so."""
    return [value.clone() for name, value in trained.state_dict().items() if name.startswith(part)]
