"""Actor and critics of soft actor-critic. Shape legend: N rows, O obs, A act, M atoms."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from epo_lightning.algorithm.q_values import CategoricalValues, ScalarValues
from epo_lightning.learner.q_networks import (
    SACNetworkSettings,
    SquashedActor,
    TwinCritic,
    build_mlp,
    require_continuous,
)
from epo_lightning.limits import Mistake
from tests.support.layers import last_linear

OBS, ACT = 5, 2
SMALL: dict[str, Any] = {"actor": (8, 6), "critic": (8, 7), "atoms": 11}


def settings(**changes: Any) -> SACNetworkSettings:
    return SACNetworkSettings(**(SMALL | changes))


def actor(seed: int = 0, **changes: Any) -> SquashedActor:
    torch.manual_seed(seed)
    return SquashedActor(OBS, ACT, settings(**changes))


def trained(policy: SquashedActor) -> SquashedActor:
    """With a head that is no longer zero."""
    head = last_linear(policy.mlp)
    nn.init.normal_(head.weight)
    nn.init.normal_(head.bias)
    return policy


class TestMlp:
    def test_layers(self) -> None:
        kinds = [type(layer) for layer in build_mlp(3, (8, 6), 4, settings())]
        assert kinds == [nn.Linear, nn.LayerNorm, nn.SiLU, nn.Linear, nn.LayerNorm, nn.SiLU, nn.Linear]
        bare = build_mlp(3, (8, 6), 4, settings(layer_norm=False, activation="elu"))
        assert [type(layer) for layer in bare] == [nn.Linear, nn.ELU, nn.Linear, nn.ELU, nn.Linear]
        assert [type(layer) for layer in build_mlp(3, (), 4, settings())] == [nn.Linear]

    def test_parameters_counted_by_hand(self) -> None:
        # 3 x 8 + 8, two of 8, 8 x 6 + 6, two of 6, 6 x 4 + 4
        assert sum(p.numel() for p in build_mlp(3, (8, 6), 4, settings()).parameters()) == 32 + 16 + 54 + 12 + 28


class TestActor:
    def test_a_new_one_stands_still_and_explores_in_the_middle_of_its_range(self) -> None:
        policy = actor()
        distribution = policy(torch.randn(4, OBS))
        assert not distribution.mean.any()
        assert distribution.log_std.tolist() == [[-2.5] * ACT] * 4  # of [-5, 0]
        assert distribution.mean.shape == (4, ACT)
        assert not policy.act(torch.randn(4, OBS), torch.zeros(4, dtype=torch.long), policy.initial_state(4))[0].any()

    def test_log_std_by_hand(self) -> None:
        policy = actor(log_std_min=-4.0, log_std_max=2.0)
        with torch.no_grad():  # the head's bias is means and raw log-stds; tanh(ln(3) / 2) = 1/2
            last_linear(policy.mlp).bias.copy_(torch.tensor([0.5, -0.5, 0.5 * math.log(3), -50.0]))
        distribution = policy(torch.randn(3, OBS))
        torch.testing.assert_close(distribution.mean, torch.tensor([[0.5, -0.5]]).expand(3, -1))
        torch.testing.assert_close(distribution.log_std, torch.tensor([[-1 + 3 * 0.5, -4.0]]).expand(3, -1))

    def test_it_acts_by_its_mode_on_normalised_observations(self) -> None:
        policy = trained(actor())
        policy.obs_moments.update(torch.randn(64, OBS) * 7 + 3)
        obs, agents, state = torch.randn(6, OBS) * 7 + 3, torch.zeros(6, dtype=torch.long), policy.initial_state(6)
        actions, new_state = policy.act(obs, agents, state)
        assert not actions.requires_grad
        assert new_state is state
        assert new_state.shape == (0, 6, 0)
        expected = policy(((obs - policy.obs_moments.mean) / policy.obs_moments.std()).float()).mean.tanh()
        torch.testing.assert_close(actions, expected)
        assert not torch.allclose(actions, policy(obs).mode())

    def test_actions_stay_in_range_whatever_the_observation(self) -> None:
        policy = trained(actor())
        obs = torch.randn(64, OBS) * 1e6
        actions, _ = policy.act(obs, torch.zeros(64, dtype=torch.long), policy.initial_state(64))
        draw = policy(policy.obs_moments.normalize(obs)).sample(torch.Generator().manual_seed(0))
        for tensor in (actions, draw.actions):
            assert tensor.abs().max() <= 1
            assert tensor.dtype == torch.float32

    def test_gradients_reach_every_parameter(self) -> None:
        policy = trained(actor())
        draw = policy(torch.randn(16, OBS)).sample(torch.Generator().manual_seed(0))
        (draw.actions.sum() + draw.log_probs.sum()).backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in policy.parameters())

    def test_its_state_dict_holds_the_normaliser(self) -> None:
        policy, other = trained(actor()), actor(seed=1)
        policy.obs_moments.update(torch.randn(64, OBS) * 7 + 3)
        other.load_state_dict(policy.state_dict())
        obs = torch.randn(6, OBS)
        state = policy.initial_state(6)
        agents = torch.zeros(6, dtype=torch.long)
        assert torch.equal(policy.act(obs, agents, state)[0], other.act(obs, agents, state)[0])
        assert policy.num_agents == 1


class TestCritic:
    def test_distributions(self) -> None:
        values = TwinCritic(OBS, ACT, settings())(torch.randn(4, OBS), torch.randn(4, ACT))
        assert isinstance(values, CategoricalValues)
        assert values.logits.shape == (2, 4, 11)
        assert values.atoms.tolist() == [-20, -16, -12, -8, -4, 0, 4, 8, 12, 16, 20]
        assert values.mean().shape == (2, 4)

    def test_numbers(self) -> None:
        values = TwinCritic(OBS, ACT, settings(atoms=None))(torch.randn(4, OBS), torch.randn(4, ACT))
        assert isinstance(values, ScalarValues)
        assert values.mean().shape == (2, 4)

    @pytest.mark.parametrize("atoms", [11, None])
    def test_the_two_differ_and_share_nothing(self, atoms: int | None) -> None:
        critic = TwinCritic(OBS, ACT, settings(atoms=atoms))
        values = critic(torch.randn(4, OBS), torch.randn(4, ACT)).mean()
        assert not torch.allclose(values[0], values[1])
        first = [*critic.critics[0].parameters()]
        second = [*critic.critics[1].parameters()]
        reached = [bool(gradient.any()) for gradient in torch.autograd.grad(values[0].sum(), [*first, *second])]
        assert reached == [True] * len(first) + [False] * len(second)

    def test_both_see_observation_and_action(self) -> None:
        critic = TwinCritic(OBS, ACT, settings())
        obs, actions = torch.randn(4, OBS, requires_grad=True), torch.randn(4, ACT, requires_grad=True)
        for number in range(2):
            for gradient in torch.autograd.grad(critic(obs, actions).mean()[number].sum(), (obs, actions)):
                assert gradient.all()

    def test_a_copy_is_a_target_net(self) -> None:
        critic = TwinCritic(OBS, ACT, settings())
        target = copy.deepcopy(critic).requires_grad_(False)
        obs, actions = torch.randn(4, OBS), torch.randn(4, ACT)
        assert torch.equal(target(obs, actions).mean(), critic(obs, actions).mean())
        assert not target(obs, actions).mean().requires_grad
        assert "atoms" not in critic.state_dict()


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "key"),
        [
            ({"actor": (8, 0)}, "actor"),
            ({"critic": (0,)}, "critic"),
            ({"atoms": 1}, "atoms"),
            ({"value_min": 3.0, "value_max": 3.0}, "value_max"),
            ({"log_std_min": 1.0}, "log_std_max"),
            ({"obs_clip": 0.0}, "obs_clip"),
        ],
    )
    def test_out_of_range(self, changes: dict[str, Any], key: str) -> None:
        with pytest.raises(Mistake, match=rf"model\.network\.{key} must be"):
            SACNetworkSettings(**changes)

    def test_without_atoms_their_range_does_not_matter(self) -> None:
        SACNetworkSettings(atoms=None, value_min=3.0, value_max=3.0)

    def test_choices_are_refused(self) -> None:
        require_continuous("Pendulum", discrete=False)
        with pytest.raises(Mistake, match=r"data\.env: MountainCar has discrete actions"):
            require_continuous("MountainCar", discrete=True)
