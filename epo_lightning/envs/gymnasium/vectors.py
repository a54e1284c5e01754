"""Gymnasium's vector environments, from an id and a way of stepping N copies.

Shape legend: N environments.

Gymnasium is imported here when the first environment is built; the extra `gymnasium` brings it.
"""

import difflib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.vector import VectorEnv as GymnasiumVector

    Task = gymnasium.envs.registration.EnvSpec | Callable[..., Any]
    """What an id stands for: a registered task, or the function that it names."""

Vectorization = Literal["sync", "async", "own"]
_ID = "data.env.init_args.id"


class Vector(NamedTuple):
    """A vector environment and what its task says about itself.

    Attributes:
        env: N environments.
        max_episode_steps: Longest episode in steps that count, or None.
        step_seconds: Simulated time of a step, or None.
    """

    env: "GymnasiumVector"
    max_episode_steps: int | None
    step_seconds: float | None


def build_vector(id: str, num_envs: int, vectorization: Vectorization, env_args: Mapping[str, Any]) -> Vector:
    """N copies of a task.

    Args:
        id: A registered id, `module:id` whose module registers it, or `module:function`.
        num_envs: N.
        vectorization: How the copies are stepped.
        env_args: What the task's constructor takes.

    Raises:
        Mistake: One line: the task does not exist, lacks a library, or does not take these arguments.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise Mistake(f"data.env: Gymnasium is missing ({error}): pip install 'epo-lightning[gymnasium]'") from error
    try:
        task = _find(id)
        if vectorization == "own":
            return _own_vector(id, task, num_envs, env_args)
        return _vector_of_copies(id, task, num_envs, vectorization == "async", env_args)
    except (ImportError, gymnasium.error.Error) as error:
        raise Mistake(f"{_ID}: {id}: {' '.join(str(error).split())}") from error
    except TypeError as error:
        if "must inherit from" in str(error):
            raise Mistake(f"{_ID}: {id}: {' '.join(str(error).split())}") from error
        if "argument" not in str(error):
            raise
        raise Mistake(f"data.env.init_args.env_args: {id}: {' '.join(str(error).split())}") from error


def _find(id: str) -> "Task":
    """The function that `id` names, or the registered task."""
    import gymnasium

    module, _, name = id.rpartition(":")
    if module:
        function: Callable[..., Any] | None = getattr(importlib.import_module(module), name, None)
        if callable(function):
            return function
    if name not in gymnasium.registry:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "a package that registers it is named package:id"
        raise Mistake(f"{_ID}: Gymnasium knows no {name}; {hint}")
    return gymnasium.spec(name)


class _Maker:
    """Makes one copy, in this process or in one of its own."""

    def __init__(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self.function, self.arguments, self.builder = function, dict(arguments), os.getpid()

    def __call__(self) -> "gymnasium.Env":
        import gymnasium

        from epo_lightning.envs.gymnasium.copies import HeldCopy

        if os.getpid() != self.builder:
            # the training finishes its iteration after a signal, and needs its environments for that
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        quiet_mujoco()
        env = self.function(**self.arguments)
        return HeldCopy(env) if isinstance(env, gymnasium.Env) else env


def _vector_of_copies(id: str, task: "Task", num_envs: int, processes: bool, env_args: Mapping[str, Any]) -> Vector:
    """N single environments, one after the other or each in a process."""
    import gymnasium
    from gymnasium.envs.registration import EnvSpec, load_env_creator
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

    arguments = dict(env_args)
    function: Callable[..., Any] = gymnasium.make
    if not isinstance(task, EnvSpec):
        function = task
    else:
        if isinstance(task.entry_point, str):
            load_env_creator(task.entry_point)  # whatever library it needs is loaded before a copy is made
        arguments["id"] = id
        arguments.setdefault("disable_env_checker", True)  # `HeldCopy` is stricter, in every step and without a warning
    sample = _Maker(function, arguments)()
    if not isinstance(sample, gymnasium.Env):
        raise Mistake(f"{_ID}: {id} must return a gymnasium.Env, got {type(sample).__name__}; or vectorization: own")
    steps = sample.spec.max_episode_steps if sample.spec else None
    seconds = _step_seconds(getattr(sample.unwrapped, "dt", None), sample.metadata)
    draws = isinstance(task, EnvSpec) and not processes and "rgb_array" in (sample.metadata.get("render_modes") or ())
    sample.close()
    if draws and "render_mode" not in arguments:
        with_pictures = arguments | {"render_mode": "rgb_array"}  # costs nothing until a picture is asked for
        try:
            _Maker(function, with_pictures)().close()
        except (TypeError, gymnasium.error.Error):
            pass  # its constructor does not take it: a task without pictures
        else:
            arguments = with_pictures

    makers = [_Maker(function, arguments)] * num_envs
    mode = AutoresetMode.SAME_STEP
    vector = AsyncVectorEnv if processes else SyncVectorEnv
    return Vector(vector(makers, copy=False, autoreset_mode=mode), steps, seconds)


def _own_vector(id: str, task: "Task", num_envs: int, env_args: Mapping[str, Any]) -> Vector:
    """The task's own vector environment."""
    import gymnasium
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

    if isinstance(task, EnvSpec):
        if task.vector_entry_point is None:
            raise Mistake(f"data.env.init_args.vectorization: {id} has no vector environment of its own: use sync")
        env = gymnasium.make_vec(id, num_envs, "vector_entry_point", **env_args)
        made = env.unwrapped.spec
        steps = made.kwargs.get("max_episode_steps") if made else None
    else:
        env, steps = task(num_envs=num_envs, **env_args), None
    if not isinstance(env, VectorEnv):
        raise Mistake(f"{_ID}: {id} must return a gymnasium.vector.VectorEnv, got {type(env).__name__}")
    if env.num_envs != num_envs:
        raise Mistake(f"data.num_envs must be {env.num_envs}, as {id} has it; got {num_envs}")
    metadata = env.metadata or {}
    mode = metadata.get("autoreset_mode")
    if mode not in [*AutoresetMode, *(each.value for each in AutoresetMode)]:
        raise Mistake(
            f"{_ID}: metadata['autoreset_mode'] of {id} must be a gymnasium.vector.AutoresetMode; got {mode!r}"
        )
    copies = env.unwrapped
    if isinstance(copies, SyncVectorEnv):
        from epo_lightning.envs.gymnasium.copies import HeldCopy

        copies.envs = [HeldCopy(each, keeps_info=True) for each in copies.envs]
    return Vector(env, steps, _step_seconds(None, metadata))


def _step_seconds(dt: object, metadata: Mapping[str, Any]) -> float | None:
    """From the task's own clock, or else from its frames per second."""
    if isinstance(dt, float | int) and dt > 0:
        return float(dt)
    rate = metadata.get("render_fps")
    return 1 / rate if isinstance(rate, float | int) and rate > 0 else None


def quiet_mujoco() -> None:
    """MuJoCo writes its warnings to a file in the working directory otherwise; where it is not loaded: nothing."""
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_ignore)


def _ignore(message: str) -> None:
    """It counts them per environment, too."""
