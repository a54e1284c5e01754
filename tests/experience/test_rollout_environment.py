"""What a rollout gives its environment and takes from it.

Axes: T horizon, N environments, K agents, O observation, A action, C off-policy columns.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from epo_lightning.envs.base import StepResult
from tests.support.scripted import (
    N,
    Reference,
    Scripted,
    T,
    agent_of,
    assert_same_rollout,
    grid,
    make_dataset,
    make_policy,
    minibatches,
    with_endings,
)


class TestActions:
    def test_clipped_for_the_environment_only(self) -> None:
        env, policy = with_endings(), make_policy()
        reference = Reference(policy)
        dataset = make_dataset(env, policy)
        dataset.collect()
        given, stored = torch.stack(env.actions), dataset.buffer.actions[:, :N]
        assert torch.equal(given, stored.clamp(-1, 1))
        assert given.abs().max() == 1
        assert (stored.abs() > 1).sum() > 5
        for t, column in grid(T, range(N)):
            mean, _, _ = reference(env.obs[t, column], agent_of(column), reference.fresh_state())
            std = policy.log_std[agent_of(column)].detach().exp()
            wanted = Normal(mean, std).log_prob(stored[t, column]).sum()
            torch.testing.assert_close(dataset.buffer.log_probs[t, column], wanted, rtol=0, atol=1e-5)

    def test_noise_is_standard_normal_around_the_mean(self) -> None:
        env = Scripted(num_envs=3000, steps=T)
        dataset = make_dataset(env, make_policy())
        reference = copy.deepcopy(dataset.policy)
        dataset.collect()
        with torch.no_grad():
            rows = reference.express(dataset.agent_ids)
            mean = torch.stack(
                [reference(reference.obs_moments.normalize(x), rows, dataset.state).actions.mean for x in env.obs[:T]]
            )
            noise = (dataset.buffer.actions[:, :3000] - mean) / rows.log_std.exp()
        assert noise.mean().abs() < 5 / math.sqrt(noise.numel())
        assert (noise.std() - 1).abs() < 5 / math.sqrt(2 * noise.numel())
        assert torch.corrcoef(noise[:2, :, 0])[0, 1].abs() < 5 / math.sqrt(3000)

    def test_no_graph_is_kept(self) -> None:
        dataset = make_dataset(policy=make_policy(lstm_units=5))
        batch = minibatches(dataset)[0]
        tensors = [*batch, dataset.state, dataset.obs, *vars(dataset.buffer).values(), *vars(dataset.ledger).values()]
        assert all(not t.requires_grad and t.grad_fn is None for t in tensors if isinstance(t, Tensor))
        assert all(not value.requires_grad for value in dataset.diagnostics.values())
        assert all(parameter.grad is None for parameter in dataset.policy.parameters())
        assert all(parameter.requires_grad for parameter in dataset.policy.parameters())


class ReusedBuffers(Scripted):
    """Returns the same tensors in every step, overwritten: the contract allows it."""

    def __init__(self) -> None:
        super().__init__()
        source = with_endings()
        self.terminated, self.truncated = source.terminated, source.truncated
        self.mine: StepResult | None = None

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        if self.mine is None:
            self.mine = result._replace(**{f: getattr(result, f).clone() for f in result._fields[:6]})
        for mine, new in zip(self.mine[:6], result[:6], strict=True):
            if mine is not None and new is not None:
                mine.copy_(new)
        return self.mine


def test_an_environment_may_reuse_its_tensors() -> None:
    one, other = make_dataset(with_endings()), make_dataset(ReusedBuffers())
    for _ in range(2):
        one.collect()
        other.collect()
        assert_same_rollout(one, other)


class TestBadEnvironments:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("field", ["obs", "reward", "successes"])
    def test_what_is_not_finite_names_its_environments(self, field: str, value: float) -> None:
        env = with_endings()
        getattr(env, field)[3, 4] = value
        getattr(env, field)[2, 1] = value
        with pytest.raises(ValueError, match=r"data\.env: Scripted returned .* not finite in envs \[1, 4\]"):
            make_dataset(env).collect()

    def test_a_bad_final_observation_names_its_environment(self) -> None:
        env = with_endings()
        assert env.final_obs is not None
        env.final_obs[2, 1, 0] = math.nan  # env 1 is truncated at step 2
        with pytest.raises(ValueError, match=r"data\.env: Scripted returned .* not finite in envs \[1\]"):
            make_dataset(env).collect()

    def test_final_observations_that_nobody_reads_may_be_anything(self) -> None:
        env = with_endings()
        assert env.final_obs is not None
        env.final_obs[~env.truncated] = math.nan
        dataset = make_dataset(env)
        dataset.collect()
        assert torch.isfinite(dataset.buffer.targets).all()

    def test_large_but_finite_is_not_refused(self) -> None:
        env = Scripted()
        env.obs[1:4] = 3e38  # their sum is not finite
        make_dataset(env).collect()

    def test_nothing_is_learnt_from_a_refused_rollout(self) -> None:
        env, policy = with_endings(), make_policy()
        env.reward[3, 4] = math.nan
        before = copy.deepcopy(policy.state_dict())
        dataset = make_dataset(env, policy)
        with pytest.raises(ValueError, match="finite"):
            dataset.collect()
        assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
        assert dataset.env_steps == 0

    @pytest.mark.parametrize(
        ("field", "change", "words"),
        [
            ("obs", lambda x: x[:, :2], r"obs must have shape \(6, 3\), got \(6, 2\)"),
            ("obs", lambda x: x.double(), r"obs must be torch\.float32, got torch\.float64"),
            ("reward", lambda x: x[:, None], r"reward must have shape \(6,\), got \(6, 1\)"),
            ("reward", lambda x: x[:1], r"reward must have shape \(6,\), got \(1,\)"),
            ("reward", lambda x: x.long(), r"reward must be torch\.float32, got torch\.int64"),
            ("terminated", lambda x: x.float(), r"terminated must be torch\.bool, got torch\.float32"),
            ("truncated", lambda x: x[:-1], r"truncated must have shape \(6,\), got \(5,\)"),
            ("successes", lambda x: x.bool(), r"successes must be torch\.float32, got torch\.bool"),
            ("final_obs", lambda x: x[0], r"final_obs must have shape \(6, 3\), got \(3,\)"),
        ],
    )
    def test_wrong_shapes_and_types_at_the_first_step(
        self, field: str, change: Callable[[Tensor], Tensor], words: str
    ) -> None:
        class Wrong(Scripted):
            def step(self, actions: Tensor) -> StepResult:
                result = super().step(actions)
                changed: dict[str, Any] = {field: change(getattr(result, field))}
                return result._replace(**changed)

        env = Wrong()
        with pytest.raises(ValueError, match=rf"StepResult\.{words}"):
            make_dataset(env).collect()
        assert env.clock == 1

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda x: x[:, :1], "shape"),  # one column would be spread over three
            (lambda x: x[:1], "shape"),
            (lambda x: x.double(), "float64"),
        ],
    )
    def test_a_wrong_first_observation_is_refused_too(self, change: Callable[[Tensor], Tensor], words: str) -> None:
        class Wrong(Scripted):
            def reset(self) -> Tensor:
                return change(super().reset())

        with pytest.raises(ValueError, match=rf"reset\(\).*{words}"):
            make_dataset(Wrong()).collect()
