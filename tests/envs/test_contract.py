"""A fault of an environment is the same one line in its first step and in a late one, whoever steps it."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec, StepResult, VectorEnv
from epo_lightning.envs.classic import Probe
from epo_lightning.experience.estimate import estimate_iteration
from epo_lightning.experience.evaluation import fixed_difficulty, play_episodes
from epo_lightning.experience.rollout import RolloutDataset, rollout_shape
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.show.playback import Playback
from epo_lightning.show.video import compose
from tests.support.command_line import Cli

CPU = torch.device("cpu")
N = 4
LATE = 7
"""Steps before the fault: in the middle of the second rollout of five."""

FAULTS: dict[str, tuple[Callable[[StepResult], Any], str]] = {
    "nothing": (lambda r: None, "step() must return a StepResult, got NoneType"),
    "tuple": (tuple, "step() must return a StepResult, got tuple"),
    "obs double": (lambda r: r._replace(obs=r.obs.double()), "StepResult.obs must be torch.float32, got torch.float64"),
    "obs numpy": (lambda r: r._replace(obs=r.obs.numpy()), "StepResult.obs must be a tensor, got ndarray"),  # type: ignore[arg-type]
    "obs of one": (lambda r: r._replace(obs=r.obs[:1]), "StepResult.obs must have shape (4, 2), got (1, 2)"),
    "obs device": (lambda r: r._replace(obs=r.obs.to("meta")), "StepResult.obs must be on cpu, got meta"),
    "obs gradient": (lambda r: r._replace(obs=r.obs.requires_grad_()), "StepResult.obs must not require a gradient"),
    "reward double": (
        lambda r: r._replace(reward=r.reward.double()),
        "StepResult.reward must be torch.float32, got torch.float64",
    ),
    "reward int": (
        lambda r: r._replace(reward=r.reward.long()),
        "StepResult.reward must be torch.float32, got torch.int64",
    ),
    "reward column": (
        lambda r: r._replace(reward=r.reward[:, None]),
        "StepResult.reward must have shape (4,), got (4, 1)",
    ),
    "reward scalar": (lambda r: r._replace(reward=r.reward.mean()), "StepResult.reward must have shape (4,), got ()"),
    "reward float": (lambda r: r._replace(reward=1.0), "StepResult.reward must be a tensor, got float"),  # type: ignore[arg-type]
    "terminated float": (
        lambda r: r._replace(terminated=r.terminated.float()),
        "StepResult.terminated must be torch.bool, got torch.float32",
    ),
    "truncated nothing": (lambda r: r._replace(truncated=None), "StepResult.truncated must be a tensor, got NoneType"),  # type: ignore[arg-type]
    "truncated int": (
        lambda r: r._replace(truncated=r.truncated.int()),
        "StepResult.truncated must be torch.bool, got torch.int32",
    ),
    "successes bool": (
        lambda r: r._replace(successes=r.truncated),
        "StepResult.successes must be torch.float32, got torch.bool",
    ),
    "final_obs list": (
        lambda r: r._replace(final_obs=r.obs.tolist()),  # type: ignore[arg-type]
        "StepResult.final_obs must be a tensor, got list",
    ),
    "final_obs of one": (
        lambda r: r._replace(final_obs=r.obs[:1]),
        "StepResult.final_obs must have shape (4, 2), got (1, 2)",
    ),
    "log of another shape": (
        lambda r: r._replace(log={"x": r.obs}),
        "StepResult.log['x'] must have shape (4,), got (4, 2)",
    ),
    "log of a list": (lambda r: r._replace(log={"x": [1.0]}), "StepResult.log['x'] must be a tensor or a number, got"),  # type: ignore[dict-item]
    "log is nothing": (lambda r: r._replace(log=None), "StepResult.log must be a mapping"),  # type: ignore[arg-type]
}


class Faulty(Probe):
    """A probe whose `fault` begins after `late` steps; it would last for ever."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, fault: str, late: int = LATE) -> None:
        super().__init__(num_envs, device, seed, dim=2, max_steps=100)
        self.change, self.clock, self.late = FAULTS[fault][0], 0, late

    def step(self, actions: Tensor) -> StepResult:
        result, self.clock = super().step(actions), self.clock + 1
        return self.change(result) if self.clock > self.late else result


def network() -> LatentActorCritic:
    return LatentActorCritic(2, 2, 2, NetworkSettings(gene_dim=2, hidden=(4,)))


def train(env: VectorEnv) -> None:
    settings = RolloutSettings(horizon=5, num_minibatches=1)
    dataset = RolloutDataset(World(env), network(), Population(2, N), settings)
    for _ in range(4):
        dataset.collect()


def watch(env: VectorEnv) -> None:
    playback = Playback(env, [0, 1, "random", "zero"], network())
    for _ in range(20):
        playback.step()


def evaluate(env: VectorEnv) -> None:
    play_episodes(env, network(), 0, 1)


@pytest.mark.parametrize("late", [0, LATE])
@pytest.mark.parametrize("stepper", [train, evaluate, watch])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_line_early_and_late(fault: str, stepper: Callable[[VectorEnv], None], late: int) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(FAULTS[fault][1])}") as caught:
        stepper(Faulty(N, CPU, 0, fault, late))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stepper", [evaluate, watch])
@pytest.mark.parametrize("field", ["obs", "reward", "successes"])
def test_what_is_not_finite_is_named_wherever_it_is_seen(field: str, stepper: Callable[[VectorEnv], None]) -> None:
    class NotFinite(Probe):
        def step(self, actions: Tensor) -> StepResult:
            result = super().step(actions)
            value = getattr(result, field).clone()
            value[[1, 3]] = torch.nan
            return result._replace(**{field: value})

    with pytest.raises(ValueError, match=r"data\.env: Probe returned .* not finite in environments \[1, 3\]"):
        stepper(NotFinite(N, CPU, 0, dim=2, max_steps=5))


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (lambda obs: None, r"^reset\(\) must return a tensor, got NoneType"),
        (lambda obs: (obs, {}), r"^reset\(\) must return a tensor, got tuple"),
        (lambda obs: obs.double(), r"reset\(\) must be torch\.float32, got torch\.float64"),
        (lambda obs: obs[:1], r"reset\(\) must have shape \(4, 2\), got \(1, 2\)"),
        (lambda obs: obs / 0, r"reset\(\) is not finite in environments \[0, 1, 2, 3\]"),
    ],
)
@pytest.mark.parametrize("stepper", [train, evaluate, watch])
def test_first_observations(first: Callable[[Tensor], Any], words: str, stepper: Callable[[VectorEnv], None]) -> None:
    class WrongStart(Probe):
        def reset(self) -> Tensor:
            wrong: Tensor = first(super().reset())
            return wrong

    with pytest.raises(ValueError, match=words):
        stepper(WrongStart(N, CPU, 0, dim=2))


def test_an_estimate_meets_them_too() -> None:
    policy, population = network(), Population(2, N)
    shape = rollout_shape(Probe(N, CPU, 0, dim=2).spec, policy.state_shape, population, RolloutSettings())
    world = World(Probe(N, CPU, 0, dim=2), build=lambda n, seed: Faulty(n, CPU, seed, "reward double", 0))
    with pytest.raises(ValueError, match=r"StepResult\.reward must be torch\.float32"):
        estimate_iteration(world, policy, shape, 1)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [
        (None, r"render\(\) must return a numpy array, got NoneType"),
        (np.zeros((2, 8, 8, 3)), r"render\(\) must return \(2, 8, 8, 3\) uint8, got \(2, 8, 8, 3\) float64"),
        (np.zeros((8, 8, 3), np.uint8), r"render\(\) must return \(2, 8, 8, 3\) uint8, got \(8, 8, 3\) uint8"),
    ],
)
def test_pictures(pictures: np.ndarray | None, words: str) -> None:
    class Draws(Probe):
        def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
            return pictures  # type: ignore[return-value]

    playback = Playback(Draws(2, CPU, 0, dim=2), ["zero", "zero"])
    with pytest.raises(ValueError, match=words):
        compose(playback, 8, 8)


def test_a_difficulty_out_of_range_names_its_key() -> None:
    class Graded(Probe):
        def curriculum(self) -> dict[str, float]:
            return {"level": 0.0}

        def set_curriculum(self, values: Mapping[str, float]) -> None:
            raise ValueError("level must be at most 1, got 7.0")

    with pytest.raises(ValueError, match=r"data\.eval_difficulty: Probe: level must be at most 1") as caught:
        fixed_difficulty(Graded(2, CPU, 0), {}, {"level": 7.0})
    assert Path(caught.traceback[-1].path).name == "evaluation.py"  # which the command line takes for a user's mistake


class Forgetful(Probe):
    """Cannot read what it has saved."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise ValueError("the saved state does not belong to this environment")


def test_a_state_that_the_environment_refuses_is_one_line(cli: Cli) -> None:
    args = ("--config", "tiny.yaml", f"--data.env={__name__}.Forgetful", "--run_dir", "run")
    assert cli("fit", *args).code == 0
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs", 3)
    assert outcome.code == 2
    assert outcome.err == (
        "error: --ckpt_path: Probe cannot continue from its saved state: the saved state does not belong to this"
        " environment\n"
    )


class OtherNumber(Probe):
    """Has one environment more than it was asked for."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs + 1, device, seed)


class NoSpec(Probe):
    """Says nothing of itself."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs, device, seed)
        self.spec = None  # type: ignore[assignment]


class FloatSpec(Probe):
    """Has computed its sizes."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs, device, seed)
        self.spec = EnvSpec("Float", num_envs, obs_dim=4 / 2, act_dim=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["Faulty", "--data.env.init_args.fault=reward double"], "StepResult.reward must be torch.float32"),
        (["Faulty", "--data.env.init_args.fault=truncated nothing"], "StepResult.truncated must be a tensor"),
        (["Faulty", "--data.env.init_args.fault=tuple"], "step() must return a StepResult"),
        (["OtherNumber"], "spec.num_envs must be 16, got 17"),
        (["NoSpec"], "NoSpec.spec must be an EnvSpec"),
        (["FloatSpec"], "spec.obs_dim must be a positive int, got 2.0"),
    ],
)
def test_the_command_line_says_it_in_one_line(cli: Cli, args: list[str], words: str) -> None:
    outcome = cli("fit", "--config", "tiny.yaml", f"--data.env={__name__}.{args[0]}", *args[1:])
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert words in outcome.err
    assert outcome.err.count("\n") == 1
