"""The other side of `WorkerEnv`: a simulator in its own interpreter, reached through shared memory.

Shape legend: N environments, O observation entries, A action entries.

`WorkerEnv` runs this one file by its path with the interpreter that the user names. It needs Python 3.8 or newer, numpy
and the simulator, and imports nothing of epo_lightning. A factory (`FACTORIES`, or the user's own `module:callable`)
makes an adapter; `serve` answers the learner's messages with it.

An adapter has
    obs_dim, act_dim       O and A (of a discrete task: the number of actions)
    reset()                -> (N, O) first observations of N new episodes
    step(actions)          -> (obs, reward, terminated, truncated, extras), like `StepResult`; extras is a dict that may
                           hold final_obs (N, O), successes (N,) and log, a dict from names to numbers or arrays
and may have
    num_envs               N as the simulator sees it; refused when it is not what was asked for
    name, discrete, max_episode_steps, step_seconds   see `EnvSpec`
    versions               dict of the simulator's versions, for messages
    state(), load_state(state)   everything the future depends on, as nested dicts and lists of arrays, numbers, strings
                           and bytes: running episodes can then be resumed to the bit
    curriculum(), set_curriculum(values, hold)   see `VectorEnv`; without `hold` the difficulty goes on changing
    close()
Arrays may be numpy's, torch's on any device, or anything with `.detach().cpu().numpy()`. `actions` are the learner's
memory, (N, A) float32 or (N,) int64: valid until `step` returns.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import io
import json
import mmap
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

PROTOCOL = 1
"""Version of everything that goes between the two processes."""
STEP, DONE, MESSAGE = b"s", b"d", b"m"
MAX_LOG_NAMES = 256
OPTIONS = "data.env.init_args.options"


class Mistake(Exception):
    """What the user has to change, as one line."""


# Messages and memory ------------------------------------------------------------------------------------------------


class Channel:
    """Messages over a stream socket: a single byte for the steps, else JSON followed by bytes.

    Args:
        sock: One end of a socket pair.
    """

    _lengths = struct.Struct("!II")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def signal(self, kind: bytes) -> None:
        """Send one byte."""
        self.sock.sendall(kind)

    def send(self, message: dict[str, Any], blob: bytes = b"") -> None:
        """Send a message."""
        text = json.dumps(message).encode()
        self.sock.sendall(MESSAGE + self._lengths.pack(len(text), len(blob)) + text + blob)

    def receive(self) -> tuple[bytes, dict[str, Any], bytes]:
        """The next byte, with its JSON and bytes when it announces a message.

        Raises:
            EOFError: When the other side is gone.
        """
        kind = self._read(1)
        if kind != MESSAGE:
            return kind, {}, b""
        text, blob = self._lengths.unpack(self._read(self._lengths.size))
        return kind, json.loads(self._read(text)), self._read(blob)

    def _read(self, length: int) -> bytes:
        parts = []
        while length:
            part = self.sock.recv(min(length, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


def layout(num_envs: int, obs_dim: int, act_dim: int, discrete: bool) -> list[list[Any]]:
    """Name, dtype, shape and offset of every array in the shared memory; the last entry ends it."""
    obs, flat = [num_envs, obs_dim], [num_envs]
    arrays = [
        ("actions", "int64" if discrete else "float32", flat if discrete else [num_envs, act_dim]),
        ("obs", "float32", obs),
        ("final_obs", "float32", obs),
        ("reward", "float32", flat),
        ("successes", "float32", flat),
        ("terminated", "bool", flat),
        ("truncated", "bool", flat),
        ("log", "float32", [MAX_LOG_NAMES]),
        ("has_final_obs", "bool", [1]),
        ("end", "bool", [0]),
    ]
    placed, offset = [], 0
    for name, dtype, shape in arrays:
        placed.append([name, dtype, shape, offset])
        offset += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 64) * 64
    return placed


def map_arrays(file: int, arrays: list[list[Any]]) -> tuple[mmap.mmap, dict[str, np.ndarray]]:
    """The shared memory behind the file descriptor `file`, and its arrays by name."""
    memory = mmap.mmap(file, arrays[-1][-1])
    return memory, {
        name: np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)
        for name, dtype, shape, offset in arrays
    }


def as_array(value: Any) -> np.ndarray:
    """`value` as a numpy array on the CPU."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def put(target: np.ndarray, value: Any, name: str) -> None:
    """Copy `value` into shared memory; a torch tensor directly from its device.

    Raises:
        Mistake: When the shape is wrong.
    """
    if not hasattr(value, "shape"):
        value = as_array(value)
    check_shape(target, value, name)
    if type(value).__module__.split(".")[0] == "torch":
        sys.modules["torch"].from_numpy(target).copy_(value.detach())
    else:
        np.copyto(target, as_array(value), casting="unsafe")


def check_shape(target: np.ndarray, value: Any, name: str) -> None:
    """Refuse what does not fit into shared memory.

    Raises:
        Mistake: When the shape is wrong.
    """
    if tuple(value.shape) != target.shape:
        raise Mistake(f"data.env: {name} must have shape {target.shape}, but the simulator's has {tuple(value.shape)}")


# States -------------------------------------------------------------------------------------------------------------


def pack(state: Any) -> bytes:
    """A state as bytes: a tree in JSON whose leaves that JSON does not know are arrays of an .npz file.

    Raises:
        Mistake: When something in it is neither plain nor an array.
    """
    arrays: list[np.ndarray] = []

    def node(value: Any, path: str) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise Mistake(f"data.env: the keys of {path} must be strings")
            return {"dict": {key: node(item, f"{path}[{key!r}]") for key, item in value.items()}}
        if isinstance(value, (list, tuple)):
            return {"list": [node(item, f"{path}[{i}]") for i, item in enumerate(value)]}
        kind = "bytes" if isinstance(value, bytes) else "array"
        array = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else as_array(value)
        if array.dtype.hasobject:
            raise Mistake(f"data.env: {path} must be an array, a number, a string or bytes, not {type(value).__name__}")
        arrays.append(array)
        return {kind: len(arrays) - 1}

    tree = json.dumps(node(state, "state()")).encode()
    file = io.BytesIO()
    np.savez(file, np.frombuffer(tree, np.uint8), *arrays)
    return file.getvalue()


def unpack(blob: bytes) -> Any:
    """The state that `pack` was given; tuples have become lists, tensors numpy arrays."""
    with np.load(io.BytesIO(blob), allow_pickle=False) as file:
        first, *arrays = [file[f"arr_{i}"] for i in range(len(file.files))]

    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        ((kind, content),) = node.items()
        if kind == "dict":
            return {key: value(item) for key, item in content.items()}
        if kind == "list":
            return [value(item) for item in content]
        return arrays[content].tobytes() if kind == "bytes" else arrays[content]

    return value(json.loads(first.tobytes()))


# Serving ------------------------------------------------------------------------------------------------------------


class Server:
    """One adapter, and the memory that it shares with the learner.

    Args:
        adapter: See the top of this file.
        label: What made it, for messages.
        num_envs: N that was asked for.
        file: Descriptor of the shared memory's file, still empty.

    Raises:
        Mistake: When the adapter lacks something, or has another number of environments.
    """

    def __init__(self, adapter: Any, label: str, num_envs: int, file: int) -> None:
        for member in ("obs_dim", "act_dim", "reset", "step"):
            if not hasattr(adapter, member):
                raise Mistake(
                    f"data.env.init_args.factory: what {label} returns must have {member}, see docs/worker.md;"
                    f" {type(adapter).__name__} has not"
                )
        present = int(getattr(adapter, "num_envs", num_envs))
        if present != num_envs:
            raise Mistake(f"data.num_envs: {label} made {present} environments, not the {num_envs} asked for")
        limit, seconds = getattr(adapter, "max_episode_steps", None), getattr(adapter, "step_seconds", None)
        self.adapter = adapter
        self.names: list[str] = []
        self.spec: dict[str, Any] = {
            "name": str(getattr(adapter, "name", label)),
            "num_envs": num_envs,
            "obs_dim": int(adapter.obs_dim),
            "act_dim": int(adapter.act_dim),
            "max_episode_steps": None if limit is None else int(limit),
            "step_seconds": None if seconds is None else float(seconds),
            "discrete": bool(getattr(adapter, "discrete", False)),
            "restores": hasattr(adapter, "state") and hasattr(adapter, "load_state"),
        }
        self.layout = layout(num_envs, self.spec["obs_dim"], self.spec["act_dim"], self.spec["discrete"])
        os.ftruncate(file, self.layout[-1][-1])
        self.memory, self.arrays = map_arrays(file, self.layout)
        pin(self.memory)

    def reset(self) -> None:
        """New episodes; their first observations go to `obs`."""
        put(self.arrays["obs"], self.adapter.reset(), "the observation of reset()")

    def step(self) -> bool:
        """One env step from `actions`; returns whether there are new names in the log."""
        arrays = self.arrays
        obs, reward, terminated, truncated, extras = self.adapter.step(arrays["actions"])
        extras = extras or {}
        put(arrays["obs"], obs, "obs")
        put(arrays["reward"], reward, "reward")
        put(arrays["terminated"], terminated, "terminated")
        put(arrays["truncated"], truncated, "truncated")
        arrays["truncated"] &= ~arrays["terminated"]
        successes = extras.get("successes")
        if successes is None:
            arrays["successes"].fill(0.0)
        else:
            put(arrays["successes"], successes, "extras['successes']")
        final_obs = extras.get("final_obs")
        arrays["has_final_obs"][0] = final_obs is not None
        if final_obs is not None:
            self._keep_final(arrays["obs"] if final_obs is obs else final_obs)
        return self._log(extras.get("log") or {})

    def _keep_final(self, final_obs: Any) -> None:
        """Copy the rows of `final_obs` that the learner reads: those of truncated episodes."""
        ended, target = self.arrays["truncated"].nonzero()[0], self.arrays["final_obs"]
        if len(ended):
            value = final_obs if hasattr(final_obs, "shape") else as_array(final_obs)
            check_shape(target, value, "extras['final_obs']")
            target[ended] = as_array(value[ended])

    def _log(self, entries: dict[str, Any]) -> bool:
        """Keep the means of `entries`; names that are not among them keep their last values."""
        known = len(self.names)
        for name, value in entries.items():
            if name not in self.names:
                if len(self.names) == MAX_LOG_NAMES:
                    raise Mistake(f"data.env: extras['log'] may have {MAX_LOG_NAMES} names at most; one more is {name}")
                self.names.append(name)
            self.arrays["log"][self.names.index(name)] = as_array(value).mean()
        return len(self.names) > known

    def answer(self, message: dict[str, Any], blob: bytes) -> tuple[dict[str, Any], bytes]:
        """Do what a message asks for; returns the answer."""
        adapter, request = self.adapter, message["request"]
        if request == "reset":
            self.reset()
        elif request == "state":
            return {}, pack(adapter.state())
        elif request == "load":
            adapter.load_state(unpack(blob))
        elif request == "curriculum":
            values = adapter.curriculum() if hasattr(adapter, "curriculum") else {}
            return {"values": {name: float(value) for name, value in values.items()}}, b""
        elif request == "set_curriculum" and hasattr(adapter, "set_curriculum"):
            adapter.set_curriculum(message["values"], message["hold"])
        return {}, b""


def pin(memory: mmap.mmap) -> None:
    """Lock the memory for fast copies from the GPU, where the simulator uses torch on one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        error = int(torch.cuda.cudart().cudaHostRegister(np.frombuffer(memory, np.uint8).ctypes.data, len(memory), 1))
        if error:
            raise RuntimeError(f"cudaHostRegister of {len(memory)} bytes failed with error {error}")


def serve(channel: Channel, file: int) -> None:
    """Make the environment that the learner asks for and answer until it says `close`."""
    channel.send({"protocol": PROTOCOL, "python": sys.version.split()[0]})
    _, message, _ = channel.receive()
    adapter = make(message)
    server = Server(adapter, message["factory"], message["num_envs"], file)
    versions = {key: str(value) for key, value in getattr(adapter, "versions", {}).items()}
    channel.send({"spec": server.spec, "layout": server.layout, "versions": versions})
    while True:
        kind, message, blob = channel.receive()
        if kind == STEP:
            if server.step():
                channel.send({"log": server.names})
            else:
                channel.signal(DONE)
        elif message["request"] == "close":
            if hasattr(adapter, "close"):
                adapter.close()
            channel.send({})
            return
        else:
            channel.send(*server.answer(message, blob))


def make(message: dict[str, Any]) -> Any:
    """The adapter that a message asks for.

    Raises:
        Mistake: When there is no such factory, or it does not take these options.
    """
    factory, options = message["factory"], dict(message["options"])
    call = FACTORIES[factory] if factory in FACTORIES else load_callable(factory)
    parameters = inspect.signature(call).parameters
    named = [each.name for each in parameters.values() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    if "device" in named:
        options.setdefault("device", message["device"])
    own = [name for name in named if name not in ("num_envs", "seed", "device")]
    if not any(each.kind == each.VAR_KEYWORD for each in parameters.values()):
        for name in options:
            if name not in own and name != "device":
                raise Mistake(f"{OPTIONS}: {factory} {choice('knows the options', name, own)}")
    for name in own:
        if parameters[name].default is inspect.Parameter.empty and name not in options:
            raise Mistake(f"{OPTIONS}.{name} must be given for {factory}")
    try:
        return call(num_envs=message["num_envs"], seed=message["seed"], **options)
    except ModuleNotFoundError as error:
        raise missing(error, factory) from error


def load_callable(path: str) -> Callable[..., Any]:
    """What `module:callable` or `file.py:callable` names.

    Raises:
        Mistake: When there is no such thing.
    """
    key, (place, _, name) = "data.env.init_args.factory", path.rpartition(":")
    if place.endswith(".py"):
        file = os.path.abspath(os.path.expanduser(place))
        sys.path.insert(0, os.path.dirname(file))
        spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(file))[0], file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        module = need(place, f"{key} {path}")
    found = getattr(module, name, None)
    if not callable(found):
        raise Mistake(f"{key}: {place} has nothing callable named {name}")
    return found


def need(package: str, whose: str) -> Any:
    """Import `package`, which `whose` needs.

    Raises:
        Mistake: When this interpreter has no such package.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not (package + ".").startswith(error.name + "."):
            raise
        raise missing(error, whose) from error


def missing(error: ModuleNotFoundError, whose: str) -> Mistake:
    """The line for a package that `whose` needs and this interpreter lacks."""
    return Mistake(
        f"data.env.init_args.python: {sys.executable} has no package {error.name}, which {whose} needs: install it"
        " there, or name another interpreter"
    )


def one_line(error: BaseException) -> str:
    """Its message without line breaks, of bearable length."""
    return " ".join(str(error).split())[:500]


def choice(has: str, given: str, known: list[str], most: int = 8) -> str:
    """`has` the `known` names, those like `given` first; of many the first ones only."""
    close = difflib.get_close_matches(given, known, most, 0.4)
    names = [*close, *[name for name in known if name not in close]]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{has} {', '.join(names[:most])}{more}; got {given!r}"


# Factories ----------------------------------------------------------------------------------------------------------
# ---- Isaac Gym -----------------------------------------------------------------------------------------------------


class IsaacGymTask:
    """A task of IsaacGymEnvs.

    Nearly all of its tasks reset at the beginning of the next step: with `done` comes the last observation of the old
    episode, and the first action of the new one is chosen from it. AnymalTerrain resets at once.

    Args:
        env: What `isaacgymenvs.make` returned.
        name: The task's name.
        torch: That interpreter's torch.
        versions: Of the packages.
    """

    def __init__(self, env: Any, name: str, torch: Any, versions: dict[str, str]) -> None:
        self.env, self.torch, self.versions = env, torch, versions
        self.name = f"IsaacGym/{name}"
        self.num_envs, self.obs_dim, self.act_dim = env.num_envs, env.num_obs, env.num_acts
        if not self.obs_dim or getattr(env, "num_agents", 1) != 1:
            raise Mistake(f"{OPTIONS}.task: {name} has not one flat observation per environment, which is needed here")
        self.most_goals = int(getattr(env, "max_consecutive_successes", 0))
        # where goals are counted, a goal that is reached sets the clock back
        self.max_episode_steps = int(env.max_episode_length) * max(1, self.most_goals)
        self.step_seconds = float(env.dt) * int(env.control_freq_inv)
        self.resets_at_once = name == "AnymalTerrain"
        self.ended = np.zeros(self.num_envs, bool)
        self.reached = np.zeros(self.num_envs, np.float32)

    def reset(self) -> Any:
        """End all episodes; the first step of the new ones has the action 0, as the observation needs one."""
        env = self.env
        if self.resets_at_once:
            env.reset_idx(self.torch.arange(self.num_envs, device=env.device))
        else:
            env.reset_buf[:] = 1
        obs = env.step(env.zero_actions())[0]
        self.ended, self.reached = as_array(env.reset_buf) != 0, self._reached()
        return obs["obs"]

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        """One control step; see `Server.step`."""
        env = self.env
        before = as_array(env.progress_buf).copy() if self.resets_at_once else None
        obs, reward, reset, info = env.step(self.torch.from_numpy(actions).to(env.rl_device))
        done, reached = as_array(reset) != 0, self._reached()
        cut = self._timed_out(before, info)
        if self.most_goals:
            cut = cut | (reached >= self.most_goals)  # there is a future, only nobody looks at it
        successes = np.maximum(reached - np.where(self.ended, 0.0, self.reached), 0.0)
        self.ended, self.reached = done, reached
        extras = {"successes": successes, "log": self._log(info)}
        if not self.resets_at_once:
            extras["final_obs"] = obs["obs"]
        return obs["obs"], reward, done & ~cut, done & cut, extras

    def _timed_out(self, before: np.ndarray | None, info: dict[str, Any]) -> np.ndarray:
        """(N,) whether the time is up, from the clocks `before` the step or from what the task tells after it."""
        last = self.env.max_episode_length - 1
        if before is not None:
            return before + 1 >= last
        if "time_outs" in info:
            return as_array(info["time_outs"]) != 0
        return as_array(self.env.progress_buf) >= last

    def curriculum(self) -> dict[str, float]:
        """The tolerance reached, in metres, of the tasks that have one."""
        return {"tolerance": self.env.success_tolerance} if hasattr(self.env, "success_tolerance") else {}

    def set_curriculum(self, values: dict[str, float], hold: bool) -> None:
        """Take over a tolerance."""
        if "tolerance" in values:
            self.env.success_tolerance = values["tolerance"]
            self.env.__dict__.pop("_extra_curriculum", None)
            if hold:
                self.env._extra_curriculum = lambda: None

    def _reached(self) -> np.ndarray:
        """(N,) goals reached in the running episodes; where they have just ended: in those."""
        count = getattr(self.env, "successes", None)
        if tuple(getattr(count, "shape", ())) != (self.num_envs,):
            return np.zeros(self.num_envs, np.float32)
        return as_array(count).astype(np.float32, copy=True)

    def _log(self, info: dict[str, Any]) -> dict[str, Any]:
        """Single numbers of `info`, and of the dicts in it that some tasks fill with them."""
        entries = {**info, **info.get("scalars", {}), **info.get("episode", {})}
        log = {
            name: value
            for name, value in entries.items()
            if isinstance(value, (int, float)) or (hasattr(value, "shape") and tuple(value.shape) == ())
        }
        log.update(self.curriculum())
        for name in ("true_objective_mean", "true_objective_min", "true_objective_max", "success_tolerance"):
            log.pop(name, None)  # said already
        # of the last complete episodes, where the task keeps it
        objective = getattr(self.env, "prev_episode_true_objective", info.get("true_objective"))
        if objective is not None:
            log["true_objective"] = objective
        return log


def isaacgym(
    num_envs: int,
    seed: int,
    device: str,
    task: str,
    sub_task: str | None = None,
    overrides: list[str] | tuple[str, ...] = (),
) -> IsaacGymTask:
    """A task of IsaacGymEnvs, without a window.

    Args:
        num_envs: N.
        seed: Seed of everything random there.
        device: Where it simulates.
        task: Name of a configuration of IsaacGymEnvs, such as AllegroKukaTwoArmsLSTM; LSTM may be left out.
        sub_task: Of the AllegroKuka tasks: reorientation, regrasping or throw.
        overrides: Further settings as one would write them for its own train.py, such as task.env.episodeLength=400.
    """
    load_libpython()
    try:
        gym = need("isaacgym", "the factory isaacgym")
    except ImportError as error:
        raise Mistake(
            f"data.env.init_args.python: {sys.executable} cannot import isaacgym: {error} (see docs/isaac_gym.md)"
        ) from error
    package, torch = need("isaacgymenvs", "the factory isaacgym"), importlib.import_module("torch")
    place = "cuda:0" if device == "cuda" else device
    settings = [
        f"++task.env.numEnvs={num_envs}",
        f"num_envs={num_envs}",
        f"seed={seed}",
        f"sim_device={place}",
        f"rl_device={place}",
    ]
    settings += [f"pipeline={'gpu' if place.startswith('cuda') else 'cpu'}", "headless=True", "graphics_device_id=-1"]
    config = isaacgym_config(package, task, sub_task, [*settings, *overrides])
    name = config.task.get("name")
    if name is None:
        raise Mistake(f"{OPTIONS}.task: {task} is what other tasks of IsaacGymEnvs build on, not a task")
    if name.startswith("HumanoidAMP"):
        raise Mistake(f"{OPTIONS}.task: {name} needs a learner that resets it and imitates motions, which this is not")
    importlib.import_module("random").seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (what the tasks draw from)
    torch.manual_seed(seed)
    env = package.make(
        seed=seed,
        task=name,
        num_envs=num_envs,
        sim_device=config.sim_device,
        rl_device=config.rl_device,
        graphics_device_id=-1,
        headless=True,
        force_render=False,
        cfg=config,
    )
    versions = {each.__name__: getattr(each, "__version__", "?") for each in (gym, package, torch)}
    return IsaacGymTask(env, name, torch, versions)


def isaacgym_config(package: Any, task: str, sub_task: str | None, settings: list[str]) -> Any:
    """The configuration that IsaacGymEnvs' own train.py would have composed.

    Raises:
        Mistake: When there is no such task or setting.
    """
    hydra = need("hydra", "the factory isaacgym")
    folder = os.path.join(os.path.dirname(os.path.abspath(package.__file__)), "cfg")
    tasks, sub_tasks = yaml_names(os.path.join(folder, "task")), yaml_names(os.path.join(folder, "task", "env"))
    config = task if task in tasks else task + "LSTM"
    if config not in tasks:
        raise Mistake(f"{OPTIONS}.task: this IsaacGymEnvs {choice('has', task, tasks)}")
    if sub_task is not None:
        if sub_task not in sub_tasks:
            raise Mistake(f"{OPTIONS}.sub_task: this IsaacGymEnvs {choice('has', sub_task, sub_tasks)}")
        settings = [f"task/env={sub_task}", *settings]
    try:
        with hydra.initialize_config_dir(config_dir=folder, version_base=None):
            # without the settings of its own learner, which many a task lacks
            return hydra.compose(config_name="config", overrides=[f"task={config}", "~train", *settings])
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("hydra", "omegaconf"):
            raise
        raise Mistake(f"{OPTIONS}: {one_line(error)}") from error


def yaml_names(folder: str) -> list[str]:
    """Names of the .yaml files of a folder."""
    files = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name[: -len(".yaml")] for name in files if name.endswith(".yaml"))


def load_libpython() -> None:
    """Isaac Gym's library wants libpython, which the loader does not look for where conda keeps it."""
    import ctypes
    import sysconfig

    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    path = os.path.join(sysconfig.get_config_var("LIBDIR") or "", name)
    if os.path.exists(path):
        ctypes.CDLL(path)


# ---- end of Isaac Gym ----------------------------------------------------------------------------------------------
# ---- Isaac Lab -----------------------------------------------------------------------------------------------------


class Lab:
    """What Isaac Lab and mjlab have in common: mjlab keeps to Isaac Lab's interface.

    Actions from [-1, 1] go to the task's action terms times `action_scale`; to the task's own bounds where it has some.
    Neither simulator can save running episodes: only the step counter that their curricula follow is kept.

    Args:
        env: The environment, with tensors on its own device.
        task: Its name.
        observations: Observation group; None: policy or actor.
        success: Termination term (of mjlab also: command term) that counts successes, at most one per episode.
        action_scale: What the task's action terms are given for an action of 1.

    Raises:
        Mistake: When the task has no such group or term, or no flat continuous observations and actions.
    """

    def __init__(self, env: Any, task: str, observations: str | None, success: str | None, action_scale: float) -> None:
        self.torch: Any = sys.modules["torch"]
        base = env.unwrapped
        self.env, self.base, self.name = env, base, task
        self.num_envs, self.step_seconds = base.num_envs, base.step_dt
        self.finite_horizon = bool(getattr(base.cfg, "is_finite_horizon", False))

        space = base.single_action_space
        if type(space).__name__ != "Box" or len(space.shape) != 1:
            raise Mistake(f"{OPTIONS}.task: {task} takes {space}, but only a flat Box of actions can be trained here")
        self.act_dim = int(space.shape[0])
        low, high = (np.broadcast_to(np.asarray(bound, np.float32), space.shape) for bound in (space.low, space.high))
        bounded = np.isfinite(low) & np.isfinite(high)
        with np.errstate(invalid="ignore"):
            middle, half = np.where(bounded, (low + high) / 2, 0.0), np.where(bounded, (high - low) / 2, action_scale)
        self.middle, self.half = (
            self.torch.tensor(each, dtype=self.torch.float32, device=base.device) for each in (middle, half)
        )

        spaces = dict(base.single_observation_space.spaces)
        flat = [name for name, each in spaces.items() if len(each.shape or ()) == 1]
        self.group = observations or ("policy" if "policy" in spaces else "actor")
        if self.group not in flat:
            what = choice("has the flat observations", self.group, flat) if flat else "has no flat observations"
            raise Mistake(f"{OPTIONS}.observations: {task} {what}")
        self.obs_dim = int(spaces[self.group].shape[0])

        self.ends: Any = getattr(base, "termination_manager", None)
        terms = list(self.ends.active_terms) if self.ends is not None else []
        limited = self.ends is None or any(
            getattr(self.ends.get_term_cfg(term).func, "__name__", "") == "time_out" for term in terms
        )
        self.max_episode_steps = int(base.max_episode_length) if limited and base.max_episode_length >= 1 else None
        if success is not None and success not in self.success_terms():
            known = self.success_terms()
            what = choice("has the terms", success, known) if known else f"has no terms; got {success!r}"
            raise Mistake(f"{OPTIONS}.success: {task} {what}")
        self.success = success
        self.held: int | None = None
        self.versions: dict[str, str] = {}

    def success_terms(self) -> list[str]:
        """Terms that can tell a success."""
        return list(self.ends.active_terms) if self.ends is not None else []

    def reset(self) -> Any:
        return self.env.reset()[0][self.group]

    def act(self, actions: np.ndarray) -> tuple[Any, ...]:
        """The simulator's own step, with `terminated` and `truncated` as the learner means them."""
        given = self.torch.from_numpy(actions).to(self.base.device) * self.half + self.middle
        obs, reward, terminated, truncated, extras = self.env.step(given)
        if self.held is not None:
            self.base.common_step_counter = self.held
        if self.finite_horizon:  # the time limit is part of the task: nothing comes after it
            terminated = terminated | truncated
        return obs, reward, terminated, truncated, extras

    def curriculum(self) -> dict[str, float]:
        return {"common_step_counter": float(self.base.common_step_counter)}

    def set_curriculum(self, values: dict[str, float], hold: bool) -> None:
        if "common_step_counter" not in values:
            raise Mistake(f"data.env: {self.name} has the curriculum common_step_counter, got {sorted(values)}")
        self.base.common_step_counter = int(values["common_step_counter"])
        self.held = self.base.common_step_counter if hold else None

    def log(self, entries: dict[str, Any]) -> dict[str, float]:
        """The finite numbers among `entries`; tensors come from the device all at once."""
        tensors = {name: value for name, value in entries.items() if self.torch.is_tensor(value)}
        numbers = {name: float(value) for name, value in entries.items() if isinstance(value, (int, float, np.number))}
        if tensors:
            means = self.torch.stack([value.float().mean().to(self.base.device) for value in tensors.values()]).tolist()
            numbers.update((name, means[i]) for i, name in enumerate(tensors))
        return {name: value for name, value in numbers.items() if np.isfinite(value)}

    def close(self) -> None:
        self.env.close()


def usable_device(device: str, package: str) -> Any:
    """torch, when it has this device.

    Raises:
        Mistake: When it has not.
    """
    torch = need("torch", package)
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise Mistake(f"{OPTIONS}.device must be cpu or cuda:0 for {package}, got {device!r}")
    if device != "cpu" and not torch.cuda.is_available():
        raise Mistake(f"{OPTIONS}.device: {sys.executable} sees no GPU for {device}; set it to cpu, if the task allows")
    if device == "cpu":
        torch.set_num_threads(1)  # its tensors are small, and idle threads would spin on the physics' cores
    return torch


def set_fields(config: Any, task: str, settings: dict[str, Any]) -> None:
    """Set fields of a task's configuration, each named by its path such as sim.dt.

    Raises:
        Mistake: When there is no such field.
    """
    for path, value in settings.items():
        owner, names = config, path.split(".")
        for depth, name in enumerate(names):
            fields = owner if isinstance(owner, dict) else vars(owner) if hasattr(owner, "__dict__") else {}
            if name not in fields:
                where = ".".join(names[:depth]) or task
                what = choice("has the fields", name, [*fields]) if fields else f"has no fields; got {name!r}"
                raise Mistake(f"{OPTIONS}.settings: {where} {what}")
            if depth + 1 < len(names):
                owner = fields[name]
            elif isinstance(owner, dict):
                owner[name] = value
            else:
                setattr(owner, name, tuple(value) if isinstance(fields[name], tuple) else value)


class IsaacLab(Lab):
    """Isaac Lab, 2 and 3; see `isaaclab`.

    Args:
        env: What gym.make returned.
        runtime: What keeps the simulator running.
        final_obs: Whether the task gives last observations.
        rest: As in `Lab`.
    """

    def __init__(self, env: Any, runtime: Any, final_obs: bool, *rest: Any) -> None:
        super().__init__(env, *rest)
        self.runtime, self.final_obs = runtime, final_obs

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        obs, reward, terminated, truncated, extras = self.act(actions)
        more = {"log": self.log(extras.get("log", {}))}
        if self.success is not None:
            more["successes"] = self.ends.get_term(self.success)
        if self.final_obs:
            more["final_obs"] = extras.get("final_obs", obs)[self.group]
        return obs[self.group], reward, terminated, truncated, more


def isaaclab(
    num_envs: int,
    seed: int,
    device: str,
    task: str,
    observations: str | None = None,
    success: str | None = None,
    action_scale: float = 1.0,
    settings: dict[str, Any] | None = None,
    imports: list[str] | None = None,
    overrides: list[str] | None = None,
    launcher: dict[str, Any] | None = None,
) -> IsaacLab:
    """A task of Isaac Lab, version 2 (Isaac Sim) or 3 (also without it).

    Args:
        num_envs: N.
        seed: Seed of the simulator's process.
        device: cpu or cuda:0.
        task: Its name in gymnasium's registry.
        observations: Observation group.
        success: Termination term that counts successes.
        action_scale: What the task's action terms are given for an action of 1.
        settings: Fields of the task's configuration, by path such as scene.env_spacing.
        imports: Modules that register own tasks.
        overrides: Version 3: presets and overrides such as physics=newton_mjwarp.
        launcher: What launches the simulator, such as {enable_cameras: true}.

    Raises:
        Mistake: When there is no such task, or an option does not fit.
    """
    sys.argv = sys.argv[:1]  # the simulator's app reads it
    usable_device(device, "isaaclab")
    try:
        package, app = need("isaaclab", "isaaclab"), need("isaaclab.app", "isaaclab")
    except ModuleNotFoundError as error:
        if error.name != "isaacsim":
            raise
        raise Mistake(
            f"data.env.init_args.python: {sys.executable} has an Isaac Lab that needs the package isaacsim; install it"
            " there, or Isaac Lab 3, which has tasks that do without"
        ) from None
    arguments = {"headless": True, "device": device, **(launcher or {})}
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    launch = getattr(app, "launch_simulation", None)  # since version 3: after the task is known
    runtime = None
    if launch is None:
        from isaaclab.app import AppLauncher  # type: ignore[import-not-found]  # in 2.3 no attribute of the module

        runtime = AppLauncher(arguments)

    gym = need("gymnasium", "isaaclab")
    for module in ("isaaclab_tasks", *(imports or [])):
        need(module, f"{OPTIONS}.imports" if module != "isaaclab_tasks" else "isaaclab")
    tasks = sorted(name for name, spec in gym.registry.items() if "env_cfg_entry_point" in (spec.kwargs or {}))
    if task not in tasks:
        raise Mistake(f"{OPTIONS}.task: isaaclab {choice('has the tasks', task, tasks)}")
    parse = need("isaaclab_tasks.utils", "isaaclab").parse_env_cfg
    known = inspect.signature(parse).parameters
    if overrides and "overrides" not in known:
        raise Mistake(f"{OPTIONS}.overrides need Isaac Lab 3; give fields of the configuration as settings")
    try:
        config = parse(task, device=device, num_envs=num_envs, **({"overrides": overrides} if overrides else {}))
    except ValueError as error:
        if not overrides:
            raise
        raise Mistake(f"{OPTIONS}.overrides: {' '.join(str(error).split())}") from None
    if hasattr(config, "possible_agents"):
        raise Mistake(f"{OPTIONS}.task: {task} is a task of several agents, which cannot be trained here")
    set_fields(config, task, settings or {})
    config.seed = seed
    final_obs = hasattr(config, "compute_final_obs")
    if final_obs:
        config.compute_final_obs = True

    if launch is not None:
        runtime = launch(config, arguments)
        try:
            runtime.__enter__()
        except SystemExit:
            raise Mistake(
                f"{OPTIONS}.task: {task} needs Isaac Sim, which {sys.executable} lacks; install it there, or choose"
                " physics without it, such as overrides: [physics=newton_mjwarp]"
            ) from None
    env = gym.make(task, cfg=config)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    adapter = IsaacLab(env, runtime, final_obs, task, observations, success, action_scale)
    adapter.versions = {"isaaclab": getattr(package, "__version__", None) or _version("isaaclab")}
    return adapter


# ---- end of Isaac Lab ----------------------------------------------------------------------------------------------
# ---- mjlab ---------------------------------------------------------------------------------------------------------


class Mjlab(Lab):
    """mjlab; see `mjlab`. It resets by our call, so that the last observations of episodes are seen."""

    def __init__(self, env: Any, *rest: Any) -> None:
        self.commands = {name: env.command_manager.get_term(name) for name in env.command_manager.active_terms}
        super().__init__(env, *rest)
        self.succeeded = self.torch.zeros(self.num_envs, dtype=self.torch.bool, device=env.device)

    def success_terms(self) -> list[str]:
        """Terms that can tell a success."""
        return [*super().success_terms(), *(name for name, term in self.commands.items() if _tells_success(term))]

    def reset(self) -> Any:
        self.succeeded[:] = False
        return super().reset()

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        obs, reward, terminated, truncated, extras = self.act(actions)
        last, log = obs[self.group], dict(extras["log"])
        more: dict[str, Any] = {"final_obs": last}
        if self.success is not None:
            more["successes"] = self.successes()
        ended = (terminated | truncated).nonzero().flatten()
        if len(ended):
            reward, terminated, truncated = reward.clone(), terminated.clone(), truncated.clone()
            obs, extras = self.env.reset(env_ids=ended)
            first, obs = obs[self.group], {self.group: last.clone()}
            obs[self.group][ended] = first[ended]
            self.succeeded[ended] = False
            log.update(extras["log"])
        more["log"] = self.log(log)
        return obs[self.group], reward, terminated, truncated, more

    def successes(self) -> Any:
        """Where an episode meets its goal for the first time, (N,) bool."""
        if self.success in self.commands:
            now = self.commands[self.success].compute_success()
        else:
            now = self.ends.get_term(self.success)
        first = now & ~self.succeeded
        self.succeeded |= now
        return first


def _tells_success(term: Any) -> bool:
    return callable(getattr(term, "compute_success", None))


def mjlab(
    num_envs: int,
    seed: int,
    device: str,
    task: str,
    observations: str | None = None,
    success: str | None = None,
    action_scale: float = 1.0,
    settings: dict[str, Any] | None = None,
    imports: list[str] | None = None,
) -> Mjlab:
    """A task of mjlab.

    Args:
        num_envs: N.
        seed: Seed of the simulator's process.
        device: cpu or cuda:0.
        task: Its name in mjlab's registry.
        observations: Observation group.
        success: Termination or command term that counts successes.
        action_scale: What the task's action terms are given for an action of 1.
        settings: Fields of the task's configuration, by path such as sim.mujoco.timestep.
        imports: Modules that register own tasks.

    Raises:
        Mistake: When there is no such task, or an option does not fit.
    """
    usable_device(device, "mjlab")
    registry = need("mjlab.tasks.registry", "mjlab")
    for module in imports or []:
        need(module, f"{OPTIONS}.imports")
    if task not in registry.list_tasks():
        raise Mistake(f"{OPTIONS}.task: mjlab {choice('has the tasks', task, registry.list_tasks())}")
    config = registry.load_env_cfg(task)
    if not hasattr(config, "auto_reset"):
        raise Mistake("data.env.init_args.python: its mjlab is too old, it must be 1.6 or newer")
    set_fields(config, task, settings or {})
    config.scene.num_envs, config.seed, config.auto_reset = num_envs, seed, False
    env = need("mjlab.envs", "mjlab").ManagerBasedRlEnv(config, device=device)
    adapter = Mjlab(env, task, observations, success, action_scale)
    adapter.versions = {name: _version(name) for name in ("mjlab", "mujoco", "mujoco-warp")}
    return adapter


def _version(package: str) -> str:
    """Of an installed distribution."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


# ---- end of mjlab --------------------------------------------------------------------------------------------------

FACTORIES: dict[str, Callable[..., Any]] = {"isaacgym": isaacgym, "isaaclab": isaaclab, "mjlab": mjlab}

# Process ------------------------------------------------------------------------------------------------------------


def live_with_the_learner(by_signal: bool) -> None:
    """End when the learner ends, and not before it: signals to the whole job are the learner's to answer.

    The end of its socket is noticed when there is something to read; a simulator that hangs needs the kernel's help.

    Args:
        by_signal: Let the kernel kill this process when the thread that started it ends (Linux).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if by_signal and sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    """`worker_main.py SOCKET FILE BY_SIGNAL`: descriptors of the socket and of the shared memory."""
    sock, file, by_signal = (int(arg) for arg in sys.argv[1:])
    live_with_the_learner(bool(by_signal))
    here = os.path.dirname(os.path.abspath(__file__))  # its names are not meant for others
    sys.path[:] = [os.getcwd(), *[place for place in sys.path if os.path.abspath(place) != here]]
    for descriptor in (sock, file):
        os.set_inheritable(descriptor, False)
    channel = Channel(socket.socket(fileno=sock))
    code = 0
    try:
        serve(channel, file)
    except (EOFError, ConnectionError):
        code = 1
    except BaseException as error:
        code = 1
        report(channel, error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # simulators tend to crash while an interpreter takes itself apart


def report(channel: Channel, error: BaseException) -> None:
    """Tell the learner what went wrong; the traceback goes to stderr."""
    if isinstance(error, Mistake):
        message = {"mistake": one_line(error)}
    else:
        traceback.print_exc()
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename != __file__]
        at = (own or frames)[-1]
        where = f"{at.filename}:{at.lineno} in {at.name}"
        message = {"raised": f"{type(error).__name__}: {one_line(error)}", "where": where}
    with contextlib.suppress(OSError):
        channel.send(message)


if __name__ == "__main__":
    main()
