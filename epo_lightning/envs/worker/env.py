"""`WorkerEnv`: an environment that lives in another interpreter, trained from this one through shared memory.

Shape legend: N environments, O observation entries, A action entries.

Some simulators need a Python, a torch or a licence prompt of their own: Isaac Gym wants Python 3.8, this package 3.11.
`WorkerEnv` runs the folder `remote` with that interpreter. Numbers go through memory that both processes map; per env
step one byte goes each way over a socket.
"""

import json
import mmap
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.envs.signals import Signals
from epo_lightning.envs.worker.process import WorkerProcess
from epo_lightning.envs.worker.remote.factories import FACTORIES
from epo_lightning.envs.worker.remote.memory import map_arrays
from epo_lightning.envs.worker.remote.mistakes import choice
from epo_lightning.envs.worker.signals import told_signals
from epo_lightning.learner.observations import Group
from epo_lightning.limits import Mistake, require_range


class WorkerEnv(VectorEnv):
    """Environments of a simulator that runs in a process of its own, with its own Python.

    On the CPU the returned tensors are the shared memory itself.

    Args:
        num_envs: N, environments on this rank.
        device: Where tensors are handed over.
        seed: Seed that the factory is given.
        python: The interpreter that has the simulator, for example ~/envs/rlgpu/bin/python.
        factory: What makes the environments there: isaacgym, isaaclab, mjlab, or your own module:callable or
            path/to/file.py:callable (see docs/worker.md).
        options: What the factory is given beyond number and seed, such as {task: AllegroKukaTwoArms}.
        start_timeout: Seconds that the simulator may take to start, and for its first step.
        step_timeout: Seconds that any other step may take.

    Raises:
        Mistake: When an argument is wrong, or the simulator cannot be started with it.
    """

    def __init__(
        self,
        num_envs: int,
        device: torch.device,
        seed: int,
        python: str,
        factory: str,
        options: dict[str, Any] | None = None,
        start_timeout: float = 600.0,
        step_timeout: float = 60.0,
    ) -> None:
        require_range("data.env.init_args.start_timeout", start_timeout, 0.0, open_low=True)
        require_range("data.env.init_args.step_timeout", step_timeout, 0.0, open_low=True)
        if factory not in FACTORIES and ":" not in factory:
            known = choice("must be module:callable, file.py:callable, or one of", factory, [*FACTORIES])
            raise Mistake(f"data.env.init_args.factory {known}")
        self._identity = {"factory": factory, "options": _plain(options or {})}
        self._device = device
        self.worker = WorkerProcess(python, start_timeout, step_timeout)
        made, _ = self.worker.request(
            "make", factory=factory, options=options or {}, num_envs=num_envs, seed=seed, device=str(device)
        )
        self.spec = EnvSpec(**made["spec"] | {"groups": tuple(_group(*each) for each in made["spec"]["groups"])})
        self.versions: dict[str, str] = made["versions"]
        self._begins_late: bool = made["begins_late"]
        self._signals = told_signals(made["signals"], super().signals(), self.spec)
        memory, arrays = map_arrays(self.worker.file, made["layout"])
        self._shared = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self._pinned = _Pinned(memory, device) if device.type == "cuda" else None
        self._log_names: list[str] = []
        self._stepped = self._held = False

    def reset(self) -> Tensor:
        """Start N new episodes; see `VectorEnv.reset`."""
        return self._start("reset")

    def reset_late(self, over: Tensor) -> Tensor:
        """With the adapter's clocks set; see `VectorEnv.reset_late`.

        Raises:
            Mistake: When the adapter cannot set them.
        """
        if not self._begins_late:
            raise Mistake(
                f"model.rollout.staggered_starts: {self.spec.name} cannot set its clock: its adapter has no"
                " reset_late(over), see docs/worker.md"
            )
        return self._start("reset_late", over=over.tolist())

    def _start(self, request: str, **arguments: Any) -> Tensor:
        """The first observations that the worker answers with."""
        self._wait_for_copies()
        self.worker.request(request, **arguments)
        obs = self._give("obs")
        self._note_copies()
        return obs

    @torch.no_grad()
    def step(self, actions: Tensor) -> StepResult:
        """One step of the simulator; see `VectorEnv.step`."""
        self._wait_for_copies()
        self._shared["actions"].copy_(actions)  # from a GPU: returns when all is there
        news = self.worker.step(patient=not self._stepped)
        self._stepped = True
        self._log_names = news.get("log", self._log_names)
        log = self._shared["log"][: len(self._log_names)].to(self._device, copy=True)
        result = StepResult(
            obs=self._give("obs"),
            reward=self._give("reward"),
            terminated=self._give("terminated"),
            truncated=self._give("truncated"),
            successes=self._give("successes"),
            final_obs=self._give("final_obs") if self._shared["has_final_obs"] else None,
            log=dict(zip(self._log_names, log.unbind(), strict=True)),
        )
        self._note_copies()
        return result

    def state_dict(self) -> dict[str, Any]:
        """What was made here and how difficult it is; where the simulator can tell, all of its running episodes."""
        values = self.curriculum()
        state: dict[str, Any] = {**self._identity, "curriculum": values, "held": self._held}
        if self.spec.restores:
            _, blob = self.worker.request("state")
            state["episodes"] = torch.frombuffer(bytearray(blob), dtype=torch.uint8)
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, to the bit where `spec.restores`; else with its difficulty only.

        Raises:
            Mistake: When another factory made it, or with other options.
        """
        wanted = [*self._identity, "curriculum", "held", *(["episodes"] if self.spec.restores else [])]
        missing = [name for name in wanted if name not in state]
        if missing:
            raise Mistake(f"data.env: this is not a saved state of a worker, it lacks {', '.join(missing)}")
        for name, value in self._identity.items():
            if state[name] != value:
                raise Mistake(f"data.env.init_args.{name} must be {state[name]}, as in the saved state; got {value}")
        if self.spec.restores:
            self.worker.request("load", state["episodes"].numpy().tobytes())
        elif state["curriculum"]:
            self.worker.request("set_curriculum", values=state["curriculum"], hold=state["held"])
        self._held = state["held"]

    def curriculum(self) -> dict[str, float]:
        """What the simulator's adapter tells."""
        answer, _ = self.worker.request("curriculum")
        values: dict[str, float] = answer["values"]
        return values

    def set_curriculum(self, values: Mapping[str, float]) -> None:
        """Hold it; see `VectorEnv.set_curriculum`."""
        self.worker.request("set_curriculum", values=dict(values), hold=True)
        self._held = True

    def begin_at(self, values: Mapping[str, float]) -> None:
        """Begin there; see `VectorEnv.begin_at`."""
        self.worker.request("set_curriculum", values=dict(values), hold=False)

    def signals(self) -> Signals:
        """What the adapter tells; see `VectorEnv.signals`."""
        return self._signals

    def close(self) -> None:
        """End the simulator's process."""
        self._wait_for_copies()
        self.worker.close()

    def _give(self, name: str) -> Tensor:
        """A shared array on our device: itself, or a copy that is on its way."""
        return self._shared[name].to(self._device, non_blocking=True)

    def _note_copies(self) -> None:
        if self._pinned is not None:
            self._pinned.copied.record(torch.cuda.current_stream(self._device))

    def _wait_for_copies(self) -> None:
        """The worker may not overwrite what a GPU still reads."""
        if self._pinned is not None:
            self._pinned.copied.synchronize()


class _Pinned:
    """The shared memory, locked so that a GPU copies it by itself; unlocked when this is forgotten.

    Args:
        memory: What both processes map.
        device: The GPU.

    Attributes:
        copied: Recorded after the last copy of a step.
    """

    def __init__(self, memory: mmap.mmap, device: torch.device) -> None:
        address = np.frombuffer(memory, np.uint8).ctypes.data
        with torch.cuda.device(device):
            error = int(torch.cuda.cudart().cudaHostRegister(address, len(memory), 1))
        if error:
            raise Mistake(f"data.env: {len(memory)} bytes could not be locked for the GPU (CUDA error {error})")
        self.copied = torch.cuda.Event()
        weakref.finalize(self, _unlock, address, memory)


def _unlock(address: int, _memory: mmap.mmap) -> None:
    """Let the memory at `address` go; its map stays open as long as this call is due, as it has it."""
    torch.cuda.cudart().cudaHostUnregister(address)


def _group(name: str, shape: Any, privileged: bool) -> Group:  # noqa: ANN401  (whatever an adapter says)
    """One of the observation; the contract's check refuses what is wrong."""
    return Group(name, tuple(shape) if isinstance(shape, list) else shape, privileged)


def _plain(options: dict[str, Any]) -> str:
    """`options` as text that compares alike in every process."""
    try:
        return json.dumps(options, sort_keys=True)
    except TypeError as error:
        raise Mistake(f"data.env.init_args.options must hold plain values only: {error}") from error
