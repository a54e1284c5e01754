"""Tell whether an environment keeps the contract of `base`.

Shape legend: N environments of this rank, O observation entries, A action entries.

`check_env` runs an environment and refuses the first fault with one line that names the member and what would be right.
What a running training checks, too, is in `contract`.

    python -m epo_lightning.envs.check my_pkg.MyEnv --num_envs 8
"""

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from epo_lightning.envs.base import EnvFactory, StepResult, VectorEnv
from epo_lightning.envs.contract import check_first, check_result, check_spec, check_symmetry, refuse
from epo_lightning.envs.signals import check_signals
from epo_lightning.learner.observations import described
from epo_lightning.limits import Mistake

_Run = list[dict[str, Tensor]]
"""The results of every step."""
_CLOSE = 1e-3
"""How far the first step of a simulator that does not repeat itself may be apart, relative to 1 and what it was."""
_FIELDS = ("obs", "reward", "terminated", "truncated", "successes", "final_obs")


def check_env(env: VectorEnv, steps: int = 100, seed: int = 0) -> None:
    """Run `env` with random actions and refuse it when it breaks the contract.

    Tensors that the environment returns may be its own buffers, overwritten by its next step. Not allowed: a result
    that shares memory with the actions, `final_obs` that shares memory with `obs`, and a saved state that shares memory
    with the running one. About 3 x `steps` steps are taken; reset the environment before using it for anything else.

    Args:
        env: The environment, fresh.
        steps: Length of each of three runs in env steps; more than an episode's length also tests resets.
        seed: Seed of the random actions. The first two steps take the extreme actions: all -1 and all 1, or
            the first and the last choice.

    Raises:
        Mistake: One line: which member is wrong, in which environments, and what would be right.
    """
    spec = check_spec(env)
    if steps < 2:
        raise Mistake(f"steps must be at least 2, got {steps}")
    first = env.reset()
    check_first(first, spec, None)
    check_signals(env.signals(), spec.seen, spec.act_dim)
    device = first.device

    generator = torch.Generator().manual_seed(seed)
    actions = torch.stack([spec.random_actions(generator) for _ in range(steps)])
    actions[0], actions[1] = (0, spec.act_dim - 1) if spec.discrete else (-1.0, 1.0)
    actions = actions.to(device)

    _run(env, actions, age=torch.zeros(spec.num_envs, dtype=torch.int64, device=device))
    _check_resume(env, actions)
    _check_reset_late(env, actions)
    check_first(env.reset(), spec, device)
    _check_curriculum(env)
    _check_reward_parameters(env, actions)
    _check_symmetry(env)


def _run(env: VectorEnv, actions: Tensor, age: Tensor | None = None) -> _Run:
    """Step through `actions` (steps, N, ...), check every result and return copies.

    `age` (N,) counts the steps of the running episodes; it is known in the first run only.
    """
    spec, results = env.spec, []
    for row in actions:
        given = row.clone()
        result = env.step(given)
        check_result(result, spec, actions.device)
        if not torch.equal(given, row):
            raise Mistake("step() must not change `actions` in place: work on a copy")
        _check_values(result)
        _check_memory(result, given)
        if age is not None and spec.max_episode_steps is not None:
            age = age + 1
            limit = f"is longer than spec.max_episode_steps = {spec.max_episode_steps}"
            ended = result.terminated | result.truncated
            refuse("the episode", limit, (age >= spec.max_episode_steps) & ~ended)
            age = torch.where(ended, 0, age)
        values = ((name, getattr(result, name)) for name in _FIELDS)
        results.append({name: value.clone() for name, value in values if value is not None})
    return results


def _check_values(result: StepResult) -> None:
    refuse("StepResult.obs", "is not finite", ~torch.isfinite(result.obs).all(1))
    refuse("StepResult.reward", "is not finite", ~torch.isfinite(result.reward))
    counted = torch.isfinite(result.successes) & (result.successes >= 0.0)
    refuse("StepResult.successes", "is negative or not finite", ~counted)
    both = "are both true (terminated wins: use `truncated & ~terminated`)"
    refuse("StepResult.terminated and truncated", both, result.terminated & result.truncated)
    if result.final_obs is not None:
        bad = result.truncated & ~torch.isfinite(result.final_obs).all(1)
        refuse("StepResult.final_obs", "is not finite where truncated", bad)


def _check_memory(result: StepResult, actions: Tensor) -> None:
    for name in _FIELDS:
        value = getattr(result, name)
        if value is not None and value.untyped_storage().data_ptr() == actions.untyped_storage().data_ptr():
            raise Mistake(f"StepResult.{name} must not share memory with `actions`: return a copy")
    if result.final_obs is not None and result.final_obs.data_ptr() == result.obs.data_ptr() and result.truncated.any():
        raise Mistake("StepResult.final_obs must not share memory with StepResult.obs: copy it before the reset")


def _check_resume(env: VectorEnv, actions: Tensor) -> None:
    """Save in the middle of an episode, run, load, run again with the same actions: all must be equal to the bit.

    Where `spec.restores` is false the state must only survive a file, and load. Where the simulator does not repeat
    itself, as many on a GPU do not, the first step must be what it was up to rounding.
    """
    env.reset()
    _run(env, actions[:7])
    state = env.state_dict()
    if not isinstance(state, dict):
        raise Mistake(f"state_dict() must return a dict, got {type(state).__name__}")
    saved = _through_a_file(state)
    wanted = _run(env, actions)
    path = _difference(state, saved, "state_dict()")
    if path:
        raise Mistake(f"{path} changed while the environment stepped: return copies (clone())")

    if env.spec.restores:
        again = _restored(env, saved, actions)
        if any(_differing(old, new) for old, new in zip(wanted, again, strict=True)):
            _refuse_forgotten(wanted, again, _restored(env, saved, actions))
    else:
        env.reset()
        env.load_state_dict(saved)

    if state:
        try:
            env.load_state_dict({})
        except ValueError:
            return
        except Exception as error:
            raise Mistake(f"load_state_dict() must refuse {{}} with a ValueError, got {error!r}") from error
        raise Mistake("load_state_dict() must refuse a state that does not fit with a ValueError, but accepted {}")


def _restored(env: VectorEnv, saved: dict[str, Any], actions: Tensor) -> _Run:
    """The results of `actions` from a saved state on."""
    env.reset()  # whatever load_state_dict forgets is now that of a first step
    env.load_state_dict(saved)
    return _run(env, actions)


def _differing(old: dict[str, Tensor], new: dict[str, Tensor]) -> dict[str, Tensor]:
    """(N,) which environments differ in a step, by field; without the fields in which none does."""
    differ = {name: (old[name] != new[name]).reshape(len(old["reward"]), -1).any(1) for name in old if name in new}
    if "final_obs" in differ:  # only these rows are read
        differ["final_obs"] &= old["truncated"]
    return {name: which for name, which in differ.items() if bool(which.any())}


def _refuse_forgotten(wanted: _Run, again: _Run, repeated: _Run) -> None:
    """Refuse what differs from the run before; to the bit, unless one state does not give one run twice either."""
    repeats = not any(_differing(new, twin) for new, twin in zip(again, repeated, strict=True))
    for step, (old, new) in enumerate(zip(wanted, again, strict=True)):
        for name, different in _differing(old, new).items():
            fault = f"differs at step {step}"
            if not repeats:
                before, after = old[name].double(), new[name].double()
                far = (before - after).abs() > _CLOSE * (1 + before.abs())
                different, fault = different & far.reshape(len(far), -1).any(1), f"{fault} by more than rounding"
            refuse(f"after load_state_dict() StepResult.{name}", fault, different)
        if not repeats:
            return  # from here on the runs part by themselves


def _check_reset_late(env: VectorEnv, actions: Tensor) -> None:
    """Where the task can set its clock: what comes of episodes that begin late is sound."""
    spec = env.spec
    over = torch.arange(spec.num_envs, device=actions.device) / spec.num_envs
    try:
        first = env.reset_late(over)
    except Mistake:
        return  # it has no clock to set
    check_first(first, spec, actions.device)
    _run(env, actions[:7])


def _check_reward_parameters(env: VectorEnv, actions: Tensor) -> None:
    """Set to what they are they change nothing; set to something else, they outlive a saved state."""
    known = env.reward_parameters()
    if not isinstance(known, dict) or not all(
        isinstance(key, str) and isinstance(value, float) for key, value in known.items()
    ):
        raise Mistake(f"reward_parameters() must return a dict from names to floats, got {known!r}")
    try:
        env.set_reward_parameters({"no such parameter": torch.ones(env.spec.num_envs, device=actions.device)})
    except Mistake:
        pass
    else:
        raise Mistake("set_reward_parameters() must refuse a name that reward_parameters() lacks with a Mistake")
    if not known or not env.spec.restores:
        return
    same = {name: torch.full((env.spec.num_envs,), value, device=actions.device) for name, value in known.items()}
    start, actions = _through_a_file(env.state_dict()), actions[:20]
    wanted = _run(env, actions)
    env.load_state_dict(start)
    env.set_reward_parameters(same)
    changed = "StepResult.reward differs after set_reward_parameters() with what reward_parameters() returned"
    for step, (old, new) in enumerate(zip(wanted, _run(env, actions), strict=True)):
        refuse(changed, f"at step {step}", old["reward"] != new["reward"])
    if env.reward_parameters() != known:
        raise Mistake(f"reward_parameters() must go on returning {known}, whatever was set")
    env.set_reward_parameters({name: 1.5 * value for name, value in same.items()})
    state = _through_a_file(env.state_dict())
    wanted = _run(env, actions)
    env.load_state_dict(start)  # in which nothing was set
    env.load_state_dict(state)
    lost = "after load_state_dict() the reward parameters that were set are lost: StepResult.reward differs"
    for step, (old, new) in enumerate(zip(wanted, _run(env, actions), strict=True)):
        refuse(lost, f"at step {step}", old["reward"] != new["reward"])


def _check_symmetry(env: VectorEnv) -> None:
    """Where the task says how it is mirrored: it is a map, and fits. Whether it is true, only its author can tell."""
    try:
        env.symmetry()
    except Mistake:
        return  # it does not
    check_symmetry(env)


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    try:
        torch.save(state, file)
        file.seek(0)
        loaded: dict[str, Any] = torch.load(file, weights_only=True)
        return loaded
    except Exception as error:
        line = str(error).strip().split("\n")[0]
        raise Mistake(f"state_dict() must hold only tensors and plain values (weights_only=True): {line}") from error


def _difference(a: object, b: object, path: str) -> str | None:
    """The path of the first entry in which two states differ."""
    if isinstance(a, Tensor):
        return None if isinstance(b, Tensor) and torch.equal(a, b.to(a.device)) else path
    if isinstance(a, Mapping) and isinstance(b, Mapping) and a.keys() == b.keys():
        paths = (_difference(a[key], b[key], f"{path}[{key!r}]") for key in a)
        return next((found for found in paths if found), None)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        paths = (_difference(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
        return next((found for found in paths if found), None)
    return None if a == b else path


def _check_curriculum(env: VectorEnv) -> None:
    values = env.curriculum()
    if not isinstance(values, dict) or not all(
        isinstance(key, str) and isinstance(value, float) for key, value in values.items()
    ):
        raise Mistake(f"curriculum() must return a dict from names to floats, got {values!r}")
    env.set_curriculum(values)
    if env.curriculum() != values:
        raise Mistake(f"set_curriculum() must take over {values}, but curriculum() then returns {env.curriculum()}")
    units = env.curriculum_units
    if not isinstance(units, Mapping) or not all(
        key in values and isinstance(unit, str) for key, unit in units.items()
    ):
        raise Mistake(f"curriculum_units must name units of values of curriculum() {sorted(values)}, got {units!r}")


def env_factory(class_path: str, init_args: Mapping[str, Any]) -> EnvFactory:
    """What `data.env` becomes when a configuration names this class and these arguments.

    Args:
        class_path: Import path of a subclass of `VectorEnv`.
        init_args: What follows `num_envs`, `device` and `seed`, as plain values like those of a YAML file.

    Raises:
        Mistake: One line, when there is no such class, or it does not take these arguments.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--env", type=EnvFactory)
    try:
        parsed = parser.parse_object({"env": {"class_path": class_path, "init_args": init_args}})
    except ArgumentError as error:
        raise Mistake(" ".join(str(error).split())) from error
    factory: EnvFactory = parser.instantiate(parsed).env
    return factory


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: check one environment class, named by its import path."""
    parser = argparse.ArgumentParser(description="Check that an environment keeps the contract of VectorEnv.")
    parser.add_argument("class_path", help="for example my_pkg.MyEnv")
    parser.add_argument("--num_envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--init_args", type=json.loads, default={}, help="further arguments of the class, as JSON")
    args = parser.parse_args(arguments)
    if "." not in args.class_path:
        parser.error(f"class_path must be an import path such as my_pkg.MyEnv, got {args.class_path!r}")
    try:
        factory = env_factory(args.class_path, args.init_args)
    except ValueError as mistake:
        parser.error(f"class_path or --init_args: {mistake}")
    try:
        env = factory(args.num_envs, args.device, args.seed)
    except ValueError as mistake:
        parser.error(str(mistake))
    try:
        check_env(env, args.steps, args.seed)
    except ValueError as fault:
        raise SystemExit(f"{args.class_path} breaks the contract: {fault}") from None
    finally:
        env.close()
    told = f"; it observes {described(env.spec.groups)}" if env.spec.groups else ""
    print(f"{args.class_path} keeps the contract: {args.num_envs} environments, {args.steps} steps{told}")


if __name__ == "__main__":
    main()
