"""What can be checked of an environment while it runs: the checks that every caller of `step` and `reset` makes.

Shape legend: N environments of this rank, O observation entries.

A fault is one line that names the member and what would be right, the same in the first step and in the last one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from epo_lightning.algorithm.symmetry import SignedPermutation, Symmetry
from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.learner.observations import require_groups
from epo_lightning.limits import Mistake


def check_spec(env: object) -> EnvSpec:
    """Check what the environment says of itself.

    Raises:
        Mistake: Naming what is wrong and what would be right.
    """
    if not isinstance(env, VectorEnv):
        raise Mistake(f"{type(env).__name__} must derive from epo_lightning.envs.base.VectorEnv")
    spec = getattr(env, "spec", None)
    if not isinstance(spec, EnvSpec):
        raise Mistake(f"{type(env).__name__}.spec must be an EnvSpec set in the constructor, got {spec!r}")
    if not isinstance(spec.name, str) or not spec.name:
        raise Mistake(f"spec.name must be a non-empty string, got {spec.name!r}")
    for name in ("num_envs", "obs_dim", "act_dim", "max_episode_steps"):
        value = getattr(spec, name)
        if name == "max_episode_steps" and value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Mistake(f"spec.{name} must be a positive int, got {value!r}")
    require_groups(spec.groups, spec.obs_dim)
    if spec.step_seconds is not None and not spec.step_seconds > 0.0:
        raise Mistake(f"spec.step_seconds must be positive or None, got {spec.step_seconds!r}")
    return spec


def check_result(result: object, spec: EnvSpec, device: torch.device) -> None:
    """Check what is known without waiting for the device: types, shapes, dtypes, devices, no gradient.

    It takes some microseconds; every caller of `step` calls it after every step.

    Args:
        result: What `step` returned.
        spec: The environment's `spec`.
        device: The device that the environment was made for.

    Raises:
        Mistake: Naming the first field that is wrong and what would be right.
    """
    if not isinstance(result, StepResult):
        raise Mistake(f"step() must return a StepResult, got {type(result).__name__}")
    n, observation = (spec.num_envs,), (spec.num_envs, spec.obs_dim)
    obs, reward, terminated, truncated, successes, final_obs, log = result
    _check_tensor("StepResult.obs", obs, observation, torch.float32, device)
    _check_tensor("StepResult.reward", reward, n, torch.float32, device)
    _check_tensor("StepResult.terminated", terminated, n, torch.bool, device)
    _check_tensor("StepResult.truncated", truncated, n, torch.bool, device)
    _check_tensor("StepResult.successes", successes, n, torch.float32, device)
    if final_obs is not None:
        _check_tensor("StepResult.final_obs", final_obs, observation, torch.float32, device)
    if not isinstance(log, Mapping):
        raise Mistake(f"StepResult.log must be a mapping from names to numbers, got {type(log).__name__}")
    for name, value in log.items():
        _check_log(name, value, n, device)


def _check_log(name: object, value: object, n: tuple[int], device: torch.device) -> None:
    """What `env_log.EnvLog` can average: numbers, () and (N,) tensors of anything but complex numbers."""
    if not isinstance(name, str):
        raise Mistake(f"StepResult.log must have names that are strings, got {name!r}")
    if isinstance(value, Tensor):
        _check_tensor(f"StepResult.log[{name!r}]", value, n if value.ndim else (), None, device)
        if value.is_complex():
            raise Mistake(f"StepResult.log[{name!r}] must be real, got {value.dtype}")
    elif not isinstance(value, int | float | np.integer | np.floating | np.bool_):
        raise Mistake(f"StepResult.log[{name!r}] must be a tensor or a number, got {type(value).__name__}")


def _check_tensor(
    name: str, value: object, shape: tuple[int, ...], dtype: torch.dtype | None, device: torch.device
) -> None:
    if (  # the usual case, in half a microsecond
        type(value) is Tensor
        and value.shape == shape
        and (dtype is None or value.dtype is dtype)
        and value.device == device
        and not value.requires_grad
    ):
        return
    if not isinstance(value, Tensor):
        joined = ": spec.join() makes one of named groups" if isinstance(value, Mapping) else ""
        raise Mistake(f"{name} must be a tensor, got {type(value).__name__}{joined}")
    if value.shape != shape:
        raise Mistake(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    if dtype is not None and value.dtype != dtype:
        raise Mistake(f"{name} must be {dtype}, got {value.dtype}")
    if value.device.type != device.type or (device.index is not None and value.device.index != device.index):
        raise Mistake(f"{name} must be on {device}, got {value.device}")
    if value.requires_grad:
        raise Mistake(f"{name} must not require a gradient: compute it under torch.no_grad()")


def check_symmetry(env: VectorEnv) -> Symmetry:
    """How `env` is mirrored, once it is known that its map is one, and fits its observations and actions.

    Raises:
        Mistake: When it is not symmetric, or its map is wrong.
    """
    spec, symmetry = env.spec, env.symmetry()
    if not isinstance(symmetry, Symmetry):
        raise Mistake(f"symmetry() of {spec.name} must return a Symmetry, got {type(symmetry).__name__}")
    _check_map(f"symmetry().obs of {spec.name}", symmetry.obs, spec.obs_dim)
    _check_map(f"symmetry().actions of {spec.name}", symmetry.actions, spec.act_dim)
    if spec.discrete and bool((symmetry.actions.signs < 0).any()):
        raise Mistake(f"symmetry().actions of {spec.name}: choices have no sign, all must be 1")
    return symmetry


def _check_map(name: str, mirrored: SignedPermutation, entries: int) -> None:
    order, signs = mirrored.order, mirrored.signs
    if order.dtype != torch.int64 or sorted(order.tolist()) != list(range(entries)):
        raise Mistake(f"{name}: the order must name each of 0 .. {entries - 1} once, in int64; got {order.tolist()}")
    if signs.shape != order.shape or not bool((signs.abs() == 1).all()):
        raise Mistake(f"{name}: the signs must be {entries} times 1 or -1, got {signs.tolist()}")
    twice = (order[order] == torch.arange(entries, device=order.device)) & (signs * signs[order] == 1)
    if not bool(twice.all()):
        raise Mistake(f"{name}: mirrored twice, entry {int((~twice).nonzero()[0])} is not what it was")


def check_first(obs: object, spec: EnvSpec, device: torch.device | None) -> None:
    """Check what `reset` returned; waits for the device, once per run.

    Args:
        obs: The first observation.
        spec: The environment's `spec`.
        device: The device that the environment was made for; None where it is not known.

    Raises:
        Mistake: Naming what is wrong and what would be right.
    """
    if not isinstance(obs, Tensor):
        joined = ": spec.join() makes one of named groups" if isinstance(obs, Mapping) else ""
        raise Mistake(f"reset() must return a tensor, got {type(obs).__name__}{joined}")
    name = "the observation of reset()"
    _check_tensor(name, obs, (spec.num_envs, spec.obs_dim), torch.float32, obs.device if device is None else device)
    refuse(name, "is not finite", ~torch.isfinite(obs).all(1))


def load_state(env: VectorEnv, state: Mapping[str, Any]) -> None:
    """Have `env` continue from `state`.

    Raises:
        Mistake: When the environment says, as the contract requires, that the state does not fit.
    """
    try:
        env.load_state_dict(state)
    except ValueError as error:
        raise Mistake(f"--ckpt_path: {env.spec.name} cannot continue from its saved state: {error}") from error


def check_pictures(pictures: object, shape: tuple[int, ...]) -> None:
    """Check what `render` returned.

    Raises:
        Mistake: Naming what is wrong and what would be right.
    """
    if not isinstance(pictures, np.ndarray):
        raise Mistake(f"render() must return a numpy array, got {type(pictures).__name__}")
    if pictures.shape != shape or pictures.dtype != np.uint8:
        raise Mistake(f"render() must return {shape} uint8, got {pictures.shape} {pictures.dtype}")


def sound(result: StepResult) -> Tensor:
    """(N,) bool: observation, reward and successes are finite; stays on the device."""
    numbers = torch.isfinite(result.reward) & torch.isfinite(result.successes)
    return numbers & torch.isfinite(result.obs).all(1)


def refuse_unsound(spec: EnvSpec, bad: Tensor) -> None:
    """Name the environments in which `sound` was false, `bad` (N,); waits for the device.

    Raises:
        Mistake: When there are any.
    """
    refuse(f"data.env: {spec.name} returned an observation, a reward or successes:", "not finite", bad)


def refuse(name: str, fault: str, bad: Tensor) -> None:
    """Raise when any entry of `bad` (N,) is true, naming the environments."""
    envs = bad.nonzero()[:, 0].tolist()
    if envs:
        more = f" and {len(envs) - 10} more" if len(envs) > 10 else ""
        raise Mistake(f"{name} {fault} in environments {envs[:10]}{more}")
