"""What MuJoCo Warp holds on the device: a model with K objects for N worlds, their data, and the recorded work on it.

Shape legend: N worlds (one per environment), K different objects.
"""

import copy
import gc
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import mujoco
import torch
from mujoco import batch
from torch import Tensor

from epo_lightning.limits import Mistake
from epo_lightning.physics.mujoco import RUNAWAY, MujocoPhysics
from epo_lightning.physics.variation import varied_fields

try:
    import mujoco_warp as mjw
    import warp as wp
except ImportError as error:
    raise Mistake(
        f"data.env.init_args.physics: warp needs MuJoCo Warp: pip install 'epo-lightning[warp]' ({error})"
    ) from error

__all__ = ["CONVEX", "TOO_FEW_CONSTRAINTS", "TOO_FEW_CONTACTS", "Worlds", "mjw", "warp_device", "wp"]
CONVEX = 8
"""Contacts per world between shapes that have no formula of their own, such as the bucket's floor and a box."""
ITERATIONS = 50
"""Of the solver, at most: in single precision it reaches the tolerance later."""
COMPILE_NOTICE = 5.0
"""Seconds of silence after which a notice says that kernels are being compiled."""

_OVERFLOW = mjw.OverflowType
TOO_FEW_CONTACTS = int(_OVERFLOW.BROADPHASE | _OVERFLOW.NARROWPHASE | _OVERFLOW.CCD)
TOO_FEW_CONSTRAINTS = int(_OVERFLOW.NEFC | _OVERFLOW.NJMAX_NNZ)
"""Bits of `overflow`."""


class Worlds:
    """N copies of `model` on a device, each with its own object.

    Args:
        model: The scene.
        cuboids: (N, 4) half edges, m, and mass, kg, of the objects.
        hands: H, hands of the scene.
        device: A CUDA device or the CPU.
        decimation: Physics steps per control step.
        contacts: Room for contacts, per world on the average of all worlds.
        constraints: Room for rows of constraints in each world.
        varied: Which of `base.FACTORS` worlds may differ in.

    Attributes:
        model: Warp's model.
        data: Warp's data, whose arrays stay where they are.
        failed: (N,) bool, worlds that failed in the last control step.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cuboids: Tensor,
        hands: int,
        device: torch.device,
        decimation: int,
        contacts: int,
        constraints: int,
        varied: Collection[str] = (),
    ) -> None:
        self._scene, self._device, self._decimation = model, device, decimation
        self._num, self._varied = len(cuboids), varied_fields(model, varied)
        self._make_objects(cuboids, hands, varied)
        wp.config.log_level = wp.LOG_ERROR
        wp.init()
        with wp.ScopedDevice(warp_device(device)), _notice():
            self._upload(contacts, constraints)
            wp.synchronize_device()  # Warp's stream and torch's know nothing of each other here
            self._advance()  # loads all kernels, which a recording should not
            self._graphs = {"advance": _record(self._advance), "read": _record(self._read)}
            wp.synchronize_device()

    def _make_objects(self, cuboids: Tensor, hands: int, varied: Collection[str]) -> None:
        """The model's values for each of K cuboids, computed by a CPU engine of K environments, and who has which."""
        unique, self._cuboid = torch.unique(cuboids.double().cpu(), dim=0, return_inverse=True)
        twin = MujocoPhysics(self._scene, len(unique), hands, unique[:, :3], unique[:, 3], threads=1, varied=varied)
        expanded = {name: twin.batch.expanded(name) for name in batch.MODEL_FIELDS}
        self._values = {name: torch.from_numpy(v.copy()) for name, v in expanded.items() if v is not None}
        twin.close()

    def _upload(self, contacts: int, constraints: int) -> None:
        model = copy.copy(self._scene)
        model.opt.iterations = ITERATIONS
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_NATIVECCD  # boxes meet boxes by formula, as on the CPU
        fields = mjw.Model.__dataclass_fields__
        self._own = own = [name for name in self._values if name in fields and fields[name].type.shape[0] == "*"]
        self.model = mjw.put_model(model, batch_sizes=dict.fromkeys(own, self._num))
        for name in own:
            target = self._model_field(name)
            target.copy_(self._values[name][self._cuboid].reshape(target.shape))
        self.model.opt.graph_conditional = self._device.type == "cpu" or wp.is_conditional_graph_supported()
        self.model.opt.warn_overflow = 0  # the engine tells it
        sizes = {"nconmax": contacts, "nccdmax": min(CONVEX, contacts), "njmax": constraints}
        self.data = mjw.make_data(model, self._num, **sizes)
        self.failed = wp.zeros(self._num, dtype=wp.bool)

    def _advance(self) -> None:
        """A control step and its sensors; a failure is cut off before it can reach other worlds."""
        self.failed.zero_()
        for _ in range(self._decimation):
            self._contain()
            mjw.step(self.model, self.data)
        self._contain()
        self._read()

    def _contain(self) -> None:
        d, limits = self.data, [self.model.qpos0, mujoco.mjMAXVAL, RUNAWAY]
        state = [d.qpos, d.qvel, d.qacc_warmstart, self.failed]
        wp.launch(_contain_failures, dim=self._num, inputs=[*limits, *state])

    def _read(self) -> None:
        """Sensors of the present positions and velocities."""
        for stage in (mjw.kinematics, mjw.com_pos, mjw.com_vel, mjw.sensor_pos, mjw.sensor_vel):
            stage(self.model, self.data)

    def launch(self, graph: str) -> None:
        """Replay "advance" (a control step, sensors) or "read" (sensors only), in order with torch's work."""
        stream = wp.stream_from_torch(self._device) if self._device.type == "cuda" else None
        wp.capture_launch(self._graphs[graph], stream)

    def own_fields(self) -> dict[str, Tensor]:
        """Those arrays of `model` of which every world has values of its own, as tensors of the same memory."""
        return {name: self._model_field(name) for name in self._own}

    def _model_field(self, name: str) -> Tensor:
        array: Tensor = wp.to_torch(getattr(self.model, name))
        return array

    def failures(self) -> Tensor:
        """`failed` as a tensor of the same memory."""
        failed: Tensor = wp.to_torch(self.failed)
        return failed

    def field(self, name: str) -> Tensor:
        """The array `name` of `data` as a tensor of the same memory."""
        array: Tensor = wp.to_torch(getattr(self.data, name))
        return array

    def model_of(self, world: int) -> mujoco.MjModel:
        """The scene with the object of `world`, and what was varied there."""
        model = copy.copy(self._scene)
        varied = {name: self._model_field(name)[world].cpu() for name in self._varied if name in self._own}
        for name, values in self._values.items():
            own = varied.get(name, values[self._cuboid[world]]).numpy()
            getattr(model, name)[: len(own)] = own
        return model


@wp.func
def _sound(env: int, far: float, runaway: float, qpos: wp.array2d[float], qvel: wp.array2d[float]) -> bool:
    for i in range(qpos.shape[1]):
        if not wp.abs(qpos[env, i]) <= far:
            return False
    for i in range(qvel.shape[1]):  # noqa: SIM110  (Warp knows no generators)
        if not wp.abs(qvel[env, i]) <= runaway:
            return False
    return True


@wp.kernel(enable_backward=False)
def _contain_failures(
    start: wp.array2d[float],
    far: float,
    runaway: float,
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    warmstart: wp.array2d[float],
    failed: wp.array[wp.bool],
) -> None:
    """Flag worlds with a NaN or a value beyond limits, and put them to rest in the initial pose."""
    env = wp.tid()
    if not _sound(env, far, runaway, qpos, qvel):
        failed[env] = True
        for i in range(qpos.shape[1]):
            qpos[env, i] = start[0, i]
        for i in range(qvel.shape[1]):
            qvel[env, i] = 0.0
            warmstart[env, i] = 0.0


def warp_device(device: torch.device) -> wp.Device:
    """Warp's name for torch's `device`; without a number that is the present GPU."""
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return wp.device_from_torch(device)


def _record(work: Callable[[], None]) -> wp.Graph:
    """The kernels that `work` launches, as a graph; no garbage may be collected meanwhile, it would be recorded."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with wp.ScopedCapture() as capture:
            work()
    finally:
        if collects:
            gc.enable()
    return capture.graph


@contextmanager
def _notice() -> Iterator[None]:
    """Tell the user what takes so long, if it does."""
    line = "MuJoCo Warp loads its kernels; new ones are compiled: half a minute on a CPU, more on a GPU"
    timer = threading.Timer(COMPILE_NOTICE, logging.getLogger(__name__).warning, [line])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
