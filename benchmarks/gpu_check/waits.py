"""How often the host waits for the device: in an env step, in a step of a rollout, in an optimizer step.

A wait is a number, a size or a truth that Python wants of a tensor, and a copy between host and device that is not told
to go on by itself. On a card torch's sync debug mode finds them; on a CPU build, where nobody waits, the calls that
would are counted instead: what torch's dispatcher and Python's functions let through.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import lightning as L
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu_check.stage import Report, Setting
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.base import StepResult
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule

_SIZED = {"nonzero", "masked_select", "_local_scalar_dense", "equal", "_unique2", "unique_dim", "bincount"}
"""Operators whose result's size, or whose result, the host has to know."""
_MASKED = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Operators that look for the true entries of a boolean index."""
_MOVING = {"cpu", "numpy", "tolist"}
"""Methods of a tensor that copy it to the host."""
_MAKING = {"tensor", "as_tensor"}
"""Functions that copy numbers of the host to the device."""
PER_ROLLOUT = 1
"""Waits of a rollout besides those of its steps: whether everything in it is finite."""


class _Operators(TorchDispatchMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        name = func.overloadpacket.__name__  # type: ignore[attr-defined]
        masked = name in _MASKED and any(
            isinstance(each, torch.Tensor) and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        )
        if name in _SIZED or masked:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        name = getattr(func, "__name__", "")
        if (
            name in _MOVING
            or (name in _MAKING and not isinstance(args[0], torch.Tensor))
            or (name == "__setitem__" and _is_number_into_entry(*args))
        ):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def _is_number_into_entry(tensor: torch.Tensor, place: object, value: object) -> bool:
    """Whether a number of the host goes to a single entry, which copies it; to several it fills them in."""
    places = place if isinstance(place, tuple) else (place,)
    chosen = all(isinstance(each, int) for each in places) and len(places) == tensor.dim()
    return chosen and not isinstance(value, torch.Tensor)


def _modules_moved(seen: Counter[str]) -> AbstractContextManager[object]:
    """Count modules that are made on the host, and copied to where they are needed."""
    own = torch.nn.Module.to

    def counted(module: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        seen["Module.to"] += 1
        return own(module, *args, **kwargs)

    return mock.patch.object(torch.nn.Module, "to", counted)


class Waits:
    """What was counted: how often by what, or on a card by which line."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._told: list[warnings.WarningMessage] = []

    def where(self) -> Counter[str]:
        """Until now."""
        lines = (each for each in self._told if "synchroniz" in str(each.message))
        return self.seen + Counter(f"{each.filename.rpartition('/')[2]}:{each.lineno}" for each in lines)

    @contextmanager
    def counting(self, device: torch.device) -> Iterator[None]:
        """Count in here."""
        if device.type != "cuda":
            with _Functions(self.seen), _Operators(self.seen), _modules_moved(self.seen):
                yield
            return
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as self._told:
                warnings.simplefilter("always")
                yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


class CountWaits(L.Callback):
    """Counts in a training, from the second iteration on: of each env step, of the rest of a rollout, of an update.

    Attributes:
        parts: How often, by part and by iteration, or by env step.
        where: By what, of each part.
    """

    def __init__(self) -> None:
        self.parts: dict[str, list[int]] = {"env step": [], "rollout": [], "update": []}
        self.where: dict[str, Counter[str]] = {name: Counter() for name in self.parts}
        self._waits = Waits()
        self._in_env: Counter[str] = Counter()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count around what the module and its experience call."""
        assert isinstance(pl_module, EPOModule)
        dataset, device = pl_module.dataset, pl_module.device
        step, collect, update = dataset.env.step, dataset.collect, pl_module.update

        def counted_step(actions: torch.Tensor) -> StepResult:
            before = self._waits.where()
            result = step(actions)
            self._keep("env step", self._waits.where() - before)
            return result

        def counted_collect() -> None:
            self._in_env, self._waits = Counter(), Waits()
            with self._waits.counting(device):
                collect()
            self._keep("rollout", self._waits.where() - self._in_env)

        def counted_update(batch: RolloutBuffer) -> None:
            self._waits = Waits()
            with self._waits.counting(device):
                update(batch)
            self._keep("update", self._waits.where())

        dataset.env.step, dataset.collect = counted_step, counted_collect  # type: ignore[method-assign]
        pl_module.update = counted_update  # type: ignore[method-assign]
        self._trainer = trainer

    def _keep(self, part: str, seen: Counter[str]) -> None:
        if part == "env step":
            self._in_env += seen
        if self._trainer.current_epoch:  # the first iteration warms up
            self.parts[part].append(seen.total())
            self.where[part] += seen


def count_waits(device: torch.device, units: int, num_envs: int, task: str, horizon: int = 8) -> CountWaits:
    """A short training in `task` on Warp, with an LSTM of so many units or without one."""
    counts = CountWaits()
    network = NetworkSettings(gene_dim=4, hidden=(32,), lstm_units=units or None)
    rollout = RolloutSettings(horizon=horizon, num_epochs=2, num_minibatches=2)
    module = EPOModule(4, network, LossSettings(), GeneOptimizerSettings(), rollout)
    data = RolloutDataModule(partial(AllegroKuka, task=task, physics="warp", objects="cube"), num_envs)
    trainer = L.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=3,
        logger=False,
        callbacks=[counts],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, data)
    return counts


def known(part: str, horizon: int) -> int:
    """Waits that `docs/gpu.md` names, of one env step, rollout or update: whether an episode was cut, in every step."""
    return {"env step": 0, "rollout": horizon + PER_ROLLOUT, "update": 0}[part]


def find_out(setting: Setting, report: Report) -> None:
    """With an LSTM and without, in the last of the timed tasks."""
    sizes, horizon = setting.sizes, 8
    for units in sorted({learner[3] for learner in sizes.learners}):
        counts = count_waits(setting.device, units, min(sizes.worlds), sizes.timed_tasks[-1], horizon)
        for part, seen in counts.parts.items():
            where = dict(counts.where[part])
            report.row("parts", part=part, lstm=units, most=max(seen), mean=sum(seen) / len(seen), where=where)
            if sorted(seen)[len(seen) // 2] > known(part, horizon):
                report.fault(
                    f"{part}, LSTM {units}: waits {max(seen)} times, {known(part, horizon)} are known: {where}"
                )
