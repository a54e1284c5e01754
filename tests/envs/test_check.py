"""The environment checker: it passes a sound environment and names each kind of fault."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.envs.check import check_env, main
from epo_lightning.envs.contract import check_result
from epo_lightning.envs.signals import Signal, Signals

CPU = torch.device("cpu")
N = 5


class Sound(VectorEnv):
    """A counter with noise: episodes last three steps. The broken environments below differ in one thing each."""

    def __init__(self, num_envs: int = N, device: torch.device = CPU, seed: int = 0) -> None:
        self.spec = EnvSpec("Sound", num_envs, obs_dim=2, act_dim=3, max_episode_steps=3, step_seconds=0.1)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.age = torch.zeros(num_envs)
        self.level = 0.5

    def observe(self) -> Tensor:
        noise = torch.rand((len(self.age), 1), generator=self.generator)
        return torch.cat((self.age[:, None], noise), dim=1)

    def reset(self) -> Tensor:
        self.age = torch.zeros_like(self.age)
        return self.observe()

    def step(self, actions: Tensor) -> StepResult:
        self.age = self.age + 1.0
        truncated = self.age >= 3.0
        final_obs = self.observe()
        self.age = torch.where(truncated, 0.0, self.age)
        none = torch.zeros_like(truncated)
        return StepResult(self.observe(), actions.sum(1), none, truncated, none.float(), final_obs, {"age": self.age})

    def state_dict(self) -> dict[str, Any]:
        return {"age": self.age.clone(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if set(state) != {"age", "generator"}:
            raise ValueError(f"needs age and generator, got {sorted(state)}")
        self.age = state["age"].clone()
        self.generator.set_state(state["generator"])

    def curriculum(self) -> dict[str, float]:
        return {"level": self.level}

    def set_curriculum(self, values: Mapping[str, float]) -> None:
        self.level = values["level"]


def with_spec(**fields: Any) -> Callable[[], VectorEnv]:
    def make() -> VectorEnv:
        env = Sound()
        env.spec = replace(env.spec, **fields)
        return env

    return make


def with_reset(change: Callable[[Tensor], Any]) -> Callable[[], VectorEnv]:
    class Broken(Sound):
        def reset(self) -> Tensor:
            broken: Tensor = change(super().reset())
            return broken

    return Broken


def with_result(change: Callable[[StepResult], Any]) -> Callable[[], VectorEnv]:
    class Broken(Sound):
        def step(self, actions: Tensor) -> StepResult:
            broken: StepResult = change(super().step(actions))
            return broken

    return Broken


def poked(value: Tensor | None, rows: list[int], entry: float) -> Tensor:
    assert value is not None
    value = value.clone()
    value[rows] = entry
    return value


class NoSpec(Sound):
    def __init__(self) -> None:
        super().__init__()
        del self.spec


class ChangesActions(Sound):
    def step(self, actions: Tensor) -> StepResult:
        actions.mul_(0.5)
        return super().step(actions)


class ReturnsActions(Sound):
    def step(self, actions: Tensor) -> StepResult:
        return super().step(actions)._replace(obs=actions[:, :2])


class NeverEnds(Sound):
    def step(self, actions: Tensor) -> StepResult:
        none = torch.zeros(N, dtype=torch.bool)
        return super().step(actions)._replace(truncated=none)


class SavesALiveTensor(Sound):
    def step(self, actions: Tensor) -> StepResult:
        before = self.age
        result = super().step(actions)
        self.age = before.copy_(self.age)
        return result

    def state_dict(self) -> dict[str, Any]:
        return {"age": self.age, "generator": self.generator.get_state()}


class ForgetsTheGenerator(Sound):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        generator = self.generator.get_state()
        super().load_state_dict(state)
        self.generator.set_state(generator)


class ForgetsTheClock(Sound):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        age = self.age.clone()
        super().load_state_dict(state)
        self.age = age


class Rounds(Sound):
    """As a GPU does, which adds up in another order each time."""

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(obs=result.obs * (1 + 1e-6 * torch.rand(result.obs.shape)))


class RoundsAndForgetsTheClock(Rounds, ForgetsTheClock):
    pass


class SavesAnObject(Sound):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "spec": self.spec}


class SavesNoDict(Sound):
    def state_dict(self) -> dict[str, Any]:
        return list(super().state_dict().items())  # type: ignore[return-value]


class LoadsAnything(Sound):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            super().load_state_dict(state)


class LoadsWithKeyError(Sound):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.age, generator = state["age"].clone(), state["generator"]
        self.generator.set_state(generator)


class CurriculumOfTensors(Sound):
    def curriculum(self) -> dict[str, float]:
        return {"level": torch.ones(1)}  # type: ignore[dict-item]


class IgnoresTheCurriculum(Sound):
    def curriculum(self) -> dict[str, float]:
        self.level += 1.0
        return {"level": self.level}


class UnitsOfNothing(Sound):
    curriculum_units: Mapping[str, str] = {"height": "m"}


class UnitsThatAreNumbers(Sound):
    curriculum_units: Mapping[str, str] = {"level": 1}  # type: ignore[dict-item]


class TellsTooLittle(Sound):
    def signals(self) -> Signals:
        return Signals((Signal("age", 1),), (Signal("action", 3),))


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "no VectorEnv": (lambda: object(), r"object must derive from .*VectorEnv"),
    "no spec": (NoSpec, r"NoSpec\.spec must be an EnvSpec"),
    "num_envs": (with_spec(num_envs=0), r"spec\.num_envs must be a positive int, got 0"),
    "obs_dim": (with_spec(obs_dim=(2,)), r"spec\.obs_dim must be a positive int, got \(2,\)"),
    "act_dim": (with_spec(act_dim=3.0), r"spec\.act_dim must be a positive int, got 3\.0"),
    "max_episode_steps": (with_spec(max_episode_steps=0), r"spec\.max_episode_steps must be a positive int"),
    "step_seconds": (with_spec(step_seconds=0.0), r"spec\.step_seconds must be positive"),
    "name": (with_spec(name=""), r"spec\.name must be a non-empty string"),
    "reset returns a tuple": (with_reset(lambda o: (o, {})), r"reset\(\) must return a tensor, got tuple"),
    "reset shape": (with_reset(lambda o: o[:, :1]), r"reset\(\) must have shape \(5, 2\), got \(5, 1\)"),
    "reset dtype": (with_reset(lambda o: o.double()), r"reset\(\) must be torch\.float32, got torch\.float64"),
    "reset nan": (with_reset(lambda o: poked(o, [4], torch.nan)), r"reset\(\) is not finite in environments \[4\]"),
    "step returns a tuple": (with_result(tuple), r"step\(\) must return a StepResult, got tuple"),
    "obs shape": (with_result(lambda r: r._replace(obs=r.obs.T)), r"obs must have shape \(5, 2\), got \(2, 5\)"),
    "obs device": (with_result(lambda r: r._replace(obs=r.obs.to("meta"))), r"obs must be on cpu, got meta"),
    "obs gradient": (with_result(lambda r: r._replace(obs=r.obs.requires_grad_())), r"obs must not require a gradient"),
    "obs nan": (
        with_result(lambda r: r._replace(obs=poked(r.obs, [0, 2], torch.inf))),
        r"obs is not finite in environments \[0, 2\]",
    ),
    "reward shape": (
        with_result(lambda r: r._replace(reward=r.reward[:, None])),
        r"reward must have shape \(5,\), got \(5, 1\)",
    ),
    "reward dtype": (with_result(lambda r: r._replace(reward=r.reward.double())), r"reward must be torch\.float32"),
    "reward list": (with_result(lambda r: r._replace(reward=r.reward.tolist())), r"reward must be a tensor, got list"),  # type: ignore[arg-type]
    "reward nan": (
        with_result(lambda r: r._replace(reward=poked(r.reward, [1, 3], torch.nan))),
        r"reward is not finite in environments \[1, 3\]",
    ),
    "terminated dtype": (
        with_result(lambda r: r._replace(terminated=r.terminated.float())),
        r"terminated must be torch\.bool, got torch\.float32",
    ),
    "truncated dtype": (
        with_result(lambda r: r._replace(truncated=r.truncated.int())),
        r"truncated must be torch\.bool",
    ),
    "both": (
        with_result(lambda r: r._replace(terminated=r.truncated.clone())),
        r"terminated and truncated are both true .* in environments \[0, 1, 2, 3, 4\]",
    ),
    "successes dtype": (
        with_result(lambda r: r._replace(successes=r.successes.bool())),
        r"successes must be torch\.float32, got torch\.bool",
    ),
    "successes negative": (
        with_result(lambda r: r._replace(successes=poked(r.successes, [2], -1.0))),
        r"successes is negative or not finite in environments \[2\]",
    ),
    "final_obs shape": (
        with_result(lambda r: r._replace(final_obs=r.obs[:2].clone())),
        r"final_obs must have shape \(5, 2\), got \(2, 2\)",
    ),
    "final_obs nan": (
        with_result(lambda r: r._replace(final_obs=poked(r.final_obs, [3], torch.nan))),
        r"final_obs is not finite where truncated in environments \[3\]",
    ),
    "final_obs is obs": (
        with_result(lambda r: r._replace(final_obs=r.obs)),
        r"final_obs must not share memory with StepResult\.obs",
    ),
    "log no mapping": (with_result(lambda r: r._replace(log=[])), r"log must be a mapping"),  # type: ignore[arg-type]
    "log string": (
        with_result(lambda r: r._replace(log={"x": "1"})),  # type: ignore[dict-item]
        r"log\['x'\] must be a tensor or a number, got str",
    ),
    "log array": (
        with_result(lambda r: r._replace(log={"x": r.reward.numpy()})),  # type: ignore[dict-item]
        r"log\['x'\] must be a tensor or a number, got ndarray",
    ),
    "log complex": (
        with_result(lambda r: r._replace(log={"x": r.reward.to(torch.complex64)})),
        r"log\['x'\] must be real, got torch.complex64",
    ),
    "log name": (with_result(lambda r: r._replace(log={1: r.reward})), r"log must have names that are strings, got 1"),  # type: ignore[dict-item]
    "log shape": (
        with_result(lambda r: r._replace(log={"x": r.obs})),
        r"log\['x'\] must have shape \(5,\), got \(5, 2\)",
    ),
    "changes actions": (ChangesActions, r"step\(\) must not change `actions` in place"),
    "returns actions": (ReturnsActions, r"obs must not share memory with `actions`"),
    "never ends": (NeverEnds, r"the episode is longer than spec\.max_episode_steps = 3 in environments"),
    "live state": (SavesALiveTensor, r"state_dict\(\)\['age'\] changed while the environment stepped"),
    "forgets generator": (ForgetsTheGenerator, r"after load_state_dict\(\) StepResult\.obs differs at step 0"),
    "forgets clock": (ForgetsTheClock, r"after load_state_dict\(\) StepResult\.\w+ differs at step"),
    "rounds and forgets clock": (
        RoundsAndForgetsTheClock,
        r"after load_state_dict\(\) StepResult\.\w+ differs at step 0 by more than rounding in environments",
    ),
    "saves an object": (SavesAnObject, r"state_dict\(\) must hold only tensors and plain values"),
    "saves no dict": (SavesNoDict, r"state_dict\(\) must return a dict, got list"),
    "loads anything": (LoadsAnything, r"load_state_dict\(\) must refuse .* but accepted"),
    "loads with KeyError": (LoadsWithKeyError, r"load_state_dict\(\) must refuse .* got KeyError"),
    "curriculum type": (CurriculumOfTensors, r"curriculum\(\) must return a dict from names to floats"),
    "curriculum ignored": (IgnoresTheCurriculum, r"set_curriculum\(\) must take over"),
    "signals too few": (TellsTooLittle, r"signals\(\): the observation's entries are 1 numbers, the environment has 2"),
    "units of nothing": (UnitsOfNothing, r"curriculum_units must name units of values of curriculum\(\) \['level'\]"),
    "units no strings": (UnitsThatAreNumbers, r"curriculum_units must name units .* got \{'level': 1\}"),
}


@pytest.mark.parametrize("steps", [2, 7, 100])
def test_a_sound_environment_passes(steps: int) -> None:
    check_env(Sound(), steps)


def test_one_that_rounds_otherwise_each_time_passes() -> None:
    check_env(Rounds())


def test_final_obs_may_be_absent() -> None:
    check_env(with_result(lambda r: r._replace(final_obs=None))())


def test_final_obs_is_free_where_not_truncated() -> None:
    def spoil(result: StepResult) -> StepResult:
        assert result.final_obs is not None
        return result._replace(final_obs=torch.where(result.truncated[:, None], result.final_obs, torch.nan))

    check_env(with_result(spoil)())


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_is_named_in_one_line(fault: str) -> None:
    make, message = BROKEN[fault]
    with pytest.raises(ValueError, match=message) as caught:
        check_env(make(), steps=20)
    assert "\n" not in str(caught.value)


class Priced(Sound):
    """Its reward has a parameter, the price of all actions. The broken ones below differ in one thing each."""

    def __init__(self) -> None:
        super().__init__()
        self.price = torch.full((N,), 2.0)

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        return result._replace(reward=result.reward * self.price)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "price": self.price.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state.items() if name != "price"})
        self.price = state["price"].clone()

    def reward_parameters(self) -> dict[str, float]:
        return {"price": 2.0}

    def set_reward_parameters(self, values: Mapping[str, Tensor]) -> None:
        super().set_reward_parameters(values)
        self.price = values["price"].clone()


class TakesAnything(Priced):
    def set_reward_parameters(self, values: Mapping[str, Tensor]) -> None:
        self.price = values.get("price", self.price).clone()


class OtherDefault(Priced):
    def reward_parameters(self) -> dict[str, float]:
        return {"price": 3.0}


class ForgetsThem(Priced):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "price": torch.full((N,), 2.0)})


class WholeNumber(Priced):
    def reward_parameters(self) -> dict[str, float]:
        return {"price": 2}


def test_reward_parameters() -> None:
    check_env(Priced())
    for broken, message in (
        (TakesAnything, "must refuse a name that reward_parameters() lacks"),
        (OtherDefault, "StepResult.reward differs after set_reward_parameters()"),
        (ForgetsThem, "the reward parameters that were set are lost"),
        (WholeNumber, "reward_parameters() must return a dict from names to floats"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            check_env(broken())


def test_long_lists_of_environments_are_cut() -> None:
    class Broken(Sound):
        def step(self, actions: Tensor) -> StepResult:
            return super().step(actions)._replace(reward=torch.full((30,), torch.nan))

    with pytest.raises(ValueError, match=r"\[0, 1, 2, 3, 4, 5, 6, 7, 8, 9\] and 20 more$"):
        check_env(Broken(30))


def test_check_result_reads_no_values() -> None:
    """On the meta device there are no values to read: a check that synchronised would raise."""
    meta = torch.device("meta")
    flags = torch.zeros(N, dtype=torch.bool, device=meta)
    obs, reward = torch.zeros(N, 2, device=meta), torch.zeros(N, device=meta)
    result = StepResult(obs, reward, flags, flags, reward, obs, {"mean": reward.mean()})
    spec = Sound().spec
    check_result(result, spec, meta)
    with pytest.raises(ValueError, match=r"StepResult\.obs must be on cpu, got meta"):
        check_result(result, spec, CPU)


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["epo_lightning.envs.classic.Probe", "--num_envs", "3", "--steps", "10", "--init_args", '{"dim": 4}'])
    assert "epo_lightning.envs.classic.Probe keeps the contract: 3 environments" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["Probe"])


def test_command_line_names_the_fault(tmp_path: Path) -> None:
    code = (
        "from epo_lightning.envs.classic import Probe\nclass Mine(Probe):\n    def reset(self):\n        return None\n"
    )
    (tmp_path / "my_pkg.py").write_text(code)
    command = [sys.executable, "-m", "epo_lightning.envs.check", "my_pkg.Mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "my_pkg.Mine breaks the contract: reset() must return a tensor, got NoneType"
