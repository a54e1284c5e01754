"""The shared actor-critic. Shape legend: N rows, T steps, K agents, O obs, A act, Z gene, H LSTM units."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from epo_lightning.algorithm.distributions import Gaussian
from epo_lightning.learner.actor_critic import PolicyOutput
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings

OBS, ACT, AGENTS, GENE, UNITS = 5, 2, 4, 3, 6


def build(seed: int = 0, num_agents: int = AGENTS, **changes: Any) -> LatentActorCritic:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"gene_dim": GENE, "hidden": (8, 7)}
    return LatentActorCritic(OBS, ACT, num_agents, NetworkSettings(**(sizes | changes)))


class Seen(NamedTuple):
    """A `PolicyOutput` of continuous actions."""

    actions: Gaussian
    value: Tensor
    state: Tensor


def see(network: LatentActorCritic, obs: Tensor, agents: list[int], resets: Tensor | None = None) -> Seen:
    output = network(obs, network.express(torch.tensor(agents)), network.initial_state(len(agents)), resets)
    assert isinstance(output, PolicyOutput)
    assert isinstance(output.actions, Gaussian)
    return Seen(output.actions, output.value, output.state)


VARIANTS = [
    {"lstm_units": None, "separate_critic": False},
    {"lstm_units": None, "separate_critic": True},
    {"lstm_units": UNITS, "separate_critic": False},
    {"lstm_units": UNITS, "separate_critic": True},
]


class TestShapes:
    @pytest.mark.parametrize(
        ("variant", "state_shape"),
        list(zip(VARIANTS, [(0, 3, 0), (0, 3, 0), (2, 3, UNITS), (4, 3, UNITS)], strict=True)),
    )
    def test_initial_state(self, variant: dict[str, Any], state_shape: tuple[int, ...]) -> None:
        network = build(**variant)
        state = network.initial_state(3)
        assert state.shape == state_shape
        assert not state.any()
        assert network.recurrent is (variant["lstm_units"] is not None)
        assert see(network, torch.randn(3, OBS), [0, 1, 3]).state.shape == state_shape

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_one_step_and_a_sequence(self, variant: dict[str, Any]) -> None:
        network = build(**variant)
        step = see(network, torch.randn(3, OBS), [0, 1, 3])
        assert (step.actions.mean.shape, step.actions.log_std.shape, step.value.shape) == ((3, ACT), (3, ACT), (3,))
        sequence = see(network, torch.randn(7, 3, OBS), [0, 1, 3], torch.zeros(7, 3, dtype=torch.bool))
        assert (sequence.actions.mean.shape, sequence.actions.log_std.shape) == ((7, 3, ACT), (3, ACT))
        assert sequence.value.shape == (7, 3)
        assert sequence.state.shape == step.state.shape

    @pytest.mark.parametrize("separate_critic", [False, True])
    def test_only_the_last_layers_of_the_trunk_feed_the_heads(self, separate_critic: bool) -> None:
        network = build(hidden=(8, 7), lstm_units=UNITS, separate_critic=separate_critic)
        assert network.action_head.in_features == network.value_head.in_features == 7
        assert (network.critic is not None) is separate_critic

    def test_parameters_counted_by_hand(self) -> None:
        # genes 2 x 3, log-std 2 x 2, trunk (5 + 3) x 8 + 8, mean 8 x 2 + 2, value 8 + 1
        network = build(num_agents=2, hidden=(8,))
        assert sum(p.numel() for p in network.parameters()) == 6 + 4 + 72 + 18 + 9

    def test_width_multiplies_every_layer(self) -> None:
        network = build(hidden=(8, 7), lstm_units=UNITS, width=4)
        assert network.action_head.in_features == network.value_head.in_features == 28
        assert network.initial_state(3).shape == (2, 3, 24)
        assert network.genes.shape == (AGENTS, GENE)
        assert see(network, torch.randn(3, OBS), [0, 1, 3]).state.shape == (2, 3, 24)
        assert not build(hidden=(8, 7), width=4).recurrent
        assert [layer.out_features for layer in build(width=4).actor.modules() if isinstance(layer, nn.Linear)] == [
            32,
            28,
        ]

    def test_a_trunk_without_hidden_layers(self) -> None:
        assert build(hidden=()).action_head.in_features == OBS + GENE
        assert see(build(hidden=(), lstm_units=UNITS), torch.randn(2, OBS), [0, 1]).actions.mean.shape == (2, ACT)


class TestSequences:
    resets = torch.tensor(
        [
            [False, True, False],  # an episode may also begin with the rollout
            [False, False, False],
            [True, False, False],
            [True, False, False],  # an episode of one step
            [False, True, False],
            [False, False, False],  # the third row never resets
        ]
    )

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_a_sequence_equals_its_steps_across_resets(self, variant: dict[str, Any]) -> None:
        network = build(**variant)
        obs, rows = torch.randn(6, 3, OBS), network.express(torch.tensor([2, 0, 2]))
        start = torch.randn_like(network.initial_state(3))  # carried over from the rollout before
        whole = network(obs, rows, start, self.resets)
        state = start
        for t in range(6):
            state = torch.where(self.resets[t][:, None], torch.zeros(()), state)
            output = network(obs[t], rows, state)
            torch.testing.assert_close(output.actions.mean, whole.actions.mean[t])
            torch.testing.assert_close(output.value, whole.value[t])
            state = output.state
        torch.testing.assert_close(state, whole.state)

    @pytest.mark.parametrize("separate_critic", [False, True])
    def test_a_reset_forgets_and_its_absence_remembers(self, separate_critic: bool) -> None:
        network = build(lstm_units=UNITS, separate_critic=separate_critic)
        obs = torch.randn(4, 1, OBS).repeat(1, 2, 1)  # two rows that see the same from step 0 on, ...
        rows = network.express(torch.tensor([1, 1]))
        start = torch.stack([torch.ones(network.state_shape), -torch.ones(network.state_shape)], dim=1)
        output = network(obs, rows, start, torch.tensor([[False, False], [False, False], [True, True], [False, False]]))
        for seen in (output.actions.mean, output.value[..., None]):  # ... but come from different pasts
            assert ((seen[:2, 0] - seen[:2, 1]).abs().amax(-1) > 1e-3).all()
            torch.testing.assert_close(seen[2:, 0], seen[2:, 1])

    def test_gradient_flows_back_in_time_until_the_reset(self) -> None:
        network = build(lstm_units=UNITS)
        obs = torch.randn(4, 1, OBS, requires_grad=True)
        resets = torch.tensor([[False], [False], [True], [False]])
        see(network, obs, [0], resets).value[3].sum().backward()
        assert obs.grad is not None
        assert obs.grad.abs().sum((1, 2)).gt(0).tolist() == [False, False, True, True]

    def test_the_past_matters_but_not_the_future(self) -> None:
        network = build(lstm_units=UNITS)
        obs = torch.randn(4, 1, OBS)
        changed = obs.clone()
        changed[1] += 1
        none = torch.zeros(4, 1, dtype=torch.bool)
        means = [see(network, each, [0], none).actions.mean for each in (obs, changed)]
        difference = (means[0] - means[1]).abs().sum((1, 2))
        assert difference.gt(0).tolist() == [False, True, True, True]


class TestGenes:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_the_gene_changes_action_and_value(self, variant: dict[str, Any]) -> None:
        network = build(**variant)
        output = see(network, torch.ones(3, OBS), [0, 1, 0])
        assert ((output.actions.mean[0] - output.actions.mean[1]).abs() > 1e-4).all()
        assert abs(output.value[0] - output.value[1]) > 1e-4
        torch.testing.assert_close(output.actions.mean[0], output.actions.mean[2])
        # nothing but the gene tells agents apart: give 1 the gene of 0
        with torch.no_grad():
            network.genes[1] = network.genes[0]
        output = see(network, torch.ones(2, OBS), [0, 1])
        torch.testing.assert_close(output.actions.mean[0], output.actions.mean[1])
        torch.testing.assert_close(output.value[0], output.value[1])

    def test_genes_start_as_standard_normal(self) -> None:
        genes = build(num_agents=64, gene_dim=32).genes
        assert genes.shape == (64, 32)
        # standard errors of 2,048 draws: 0.022 and 0.016
        assert genes.mean().item() == pytest.approx(0.0, abs=0.1)
        assert genes.std().item() == pytest.approx(1.0, abs=0.07)

    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("part", ["mean", "value"])
    def test_gradient_reaches_the_genes_of_the_agents_in_the_batch_only(
        self, variant: dict[str, Any], part: str
    ) -> None:
        network = build(**variant)
        output = see(network, torch.randn(3, OBS), [3, 1, 3])
        {"mean": output.actions[0], "value": output.value}[part].sum().backward()
        assert network.genes.grad is not None
        assert network.genes.grad.abs().sum(1).gt(0).tolist() == [False, True, False, True]

    def test_an_agents_samples_add_up_in_its_gene(self) -> None:
        network = build()
        obs = torch.randn(1, OBS)
        see(network, obs, [2]).value.sum().backward()
        assert network.genes.grad is not None
        once = network.genes.grad.clone()
        network.zero_grad()
        see(network, obs.repeat(3, 1), [2, 2, 2]).value.sum().backward()
        torch.testing.assert_close(network.genes.grad, 3 * once)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_one_agent_needs_no_gene(self, variant: dict[str, Any]) -> None:
        network = build(num_agents=1, gene_dim=0, **variant)
        assert network.genes.numel() == 0
        optimizer = torch.optim.Adam(network.parameters())
        output = see(network, torch.randn(2, OBS), [0, 0])
        (output.actions.mean.sum() + output.value.sum() + output.actions.log_std.sum()).backward()
        optimizer.step()
        assert torch.isfinite(see(network, torch.randn(2, OBS), [0, 0]).actions.mean).all()

    def test_several_agents_need_a_gene(self) -> None:
        with pytest.raises(ValueError, match="gene_dim must be at least 1 with 2 agents"):
            build(num_agents=2, gene_dim=0)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("gene_dim", {"gene_dim": -1}),
        ("hidden", {"hidden": (8, 0)}),
        ("width", {"width": 0}),
        ("lstm_units", {"lstm_units": 0}),  # null is the way to have none
        ("obs_clip", {"obs_clip": 0.0}),
        ("log_std_max", {"log_std_min": 1.0, "log_std_max": 0.0}),
        ("log_std_init", {"log_std_init": 3.0}),
        ("log_std_init", {"log_std_init": -6.0}),
    ],
)
def test_settings_out_of_range_are_refused_by_name(key: str, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"model.network.{key} must"):
        NetworkSettings(**values)


class TestLogStd:
    def test_every_agent_has_its_own(self) -> None:
        network = build(log_std_init=-1.5)
        assert network.log_std.tolist() == [[-1.5] * ACT] * AGENTS
        with torch.no_grad():
            network.log_std.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]]))
        log_std = see(network, torch.randn(3, OBS), [3, 0, 3]).actions.log_std
        assert log_std.tolist() == [[6.0, 7.0], [0.0, 1.0], [6.0, 7.0]]
        log_std.sum().backward()
        assert network.log_std.grad is not None
        assert network.log_std.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [2.0, 2.0]]

    def test_clamp_projects_into_the_range_in_place(self) -> None:
        network = build(log_std_min=-2.0, log_std_max=0.5)
        parameter = network.log_std
        with torch.no_grad():
            parameter.copy_(torch.tensor([[-9.0, -2.0], [0.0, 0.5], [0.6, 9.0], [-2.1, 0.1]]))
        network.clamp_log_std()
        assert network.log_std is parameter
        assert parameter.requires_grad
        expected = torch.tensor([[-2.0, -2.0], [0.0, 0.5], [0.5, 0.5], [-2.0, 0.1]])
        torch.testing.assert_close(parameter.detach(), expected)


class TestCritic:
    @staticmethod
    def touched(network: LatentActorCritic, loss: Tensor) -> set[str]:
        """Top-level parts that get a gradient from `loss`."""
        network.zero_grad()
        loss.backward()
        return {
            name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())
        }

    @pytest.mark.parametrize("lstm_units", [None, UNITS])
    def test_a_separate_critic_shares_the_genes_only(self, lstm_units: int | None) -> None:
        network = build(separate_critic=True, lstm_units=lstm_units)
        obs = torch.randn(8, OBS)
        agents = [0, 1, 2, 3] * 2
        assert self.touched(network, see(network, obs, agents).value.sum()) == {"genes", "critic", "value_head"}
        assert self.touched(network, see(network, obs, agents).actions.mean.sum()) == {"genes", "actor", "action_head"}

    def test_a_shared_trunk_learns_from_both(self) -> None:
        network = build()
        obs = torch.randn(4, OBS)
        assert self.touched(network, see(network, obs, [0, 1, 2, 3]).value.sum()) == {"genes", "actor", "value_head"}
        means = see(network, obs, [0, 1, 2, 3]).actions.mean
        assert self.touched(network, means.sum()) == {"genes", "actor", "action_head"}

    def test_separate_recurrent_states_do_not_mix(self) -> None:
        network = build(separate_critic=True, lstm_units=UNITS)
        obs, rows = torch.randn(2, OBS), network.express(torch.tensor([0, 1]))
        zeros = network.initial_state(2)
        plain = network(obs, rows, zeros)
        for part, acts_alike, values_alike in ((slice(0, 2), False, True), (slice(2, 4), True, False)):
            state = zeros.clone()
            state[part] = 1.0
            output = network(obs, rows, state)
            assert torch.equal(output.actions.mean, plain.actions.mean) == acts_alike
            assert torch.equal(output.value, plain.value) == values_alike


class TestPopArt:
    def test_values_do_not_jump_when_the_moments_move(self) -> None:
        network = build()
        obs = torch.randn(6, OBS)
        parameters = list(network.value_head.parameters())
        for targets in (torch.randn(50) * 20 + 300, torch.randn(10) * 0.1 - 1000):
            raw = see(network, obs, [0, 1, 2, 3, 0, 1]).value
            before = network.value_moments.denormalize(raw)
            network.update_value_moments(targets)
            output = see(network, obs, [0, 1, 2, 3, 0, 1]).value
            torch.testing.assert_close(network.value_moments.denormalize(output), before, rtol=1e-4, atol=1e-2)
            assert (output - raw).abs().min() > 0.1  # the normalised value did move
        assert all(a is b for a, b in zip(parameters, network.value_head.parameters(), strict=True))
        assert all(p.requires_grad for p in parameters)

    def test_the_head_is_rescaled_by_hand(self) -> None:
        network = build()
        network.value_moments.epsilon = 0.0
        with torch.no_grad():
            network.value_head.weight.fill_(8.0)
            network.value_head.bias.fill_(6.0)
        network.update_value_moments(torch.tensor([8.0, 12.0]))  # mean 0 -> 10, standard deviation 1 -> 2
        assert network.value_head.weight.unique().tolist() == [4.0]  # 8 / 2
        assert network.value_head.bias.tolist() == [-2.0]  # (6 + 0 - 10) / 2
        network.update_value_moments(torch.tensor([8.0, 12.0, 14.0, 6.0, 14.0, 6.0]))
        # 8, 12 twice, 6, 14 twice: mean 10, variance (4 x 4 + 4 x 16) / 8 = 10
        assert network.value_moments.var.item() == pytest.approx(10.0)
        assert network.value_head.weight[0, 0].item() == pytest.approx(8 / 10**0.5)
        assert network.value_head.bias.item() == pytest.approx(-4 / 10**0.5)

    def test_actions_are_not_touched(self) -> None:
        network = build()
        obs = torch.randn(2, OBS)
        before = see(network, obs, [0, 1]).actions.mean
        network.update_value_moments(torch.tensor([100.0, 300.0]))
        assert torch.equal(see(network, obs, [0, 1]).actions.mean, before)


class TestAct:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_is_deterministic_and_carries_the_state(self, variant: dict[str, Any]) -> None:
        network = build(**variant)
        obs, agents, state = torch.randn(3, OBS), torch.tensor([0, 2, 3]), network.initial_state(3)
        actions, new_state = network.act(obs, agents, state)
        again, _ = network.act(obs, agents, state)
        assert torch.equal(actions, again)
        assert actions.shape == (3, ACT)
        assert new_state.shape == state.shape
        assert not actions.requires_grad
        assert bool(new_state.any()) is network.recurrent

    def test_actions_are_clipped_means(self) -> None:
        network = build()
        with torch.no_grad():
            network.action_head.weight.zero_()
            network.action_head.bias.copy_(torch.tensor([3.0, -0.25]))
        actions, _ = network.act(torch.randn(2, OBS), torch.tensor([0, 1]), network.initial_state(2))
        assert actions.tolist() == [[1.0, -0.25]] * 2
        with torch.no_grad():
            network.action_head.bias.copy_(torch.tensor([-3.0, 0.25]))
        actions, _ = network.act(torch.randn(2, OBS), torch.tensor([0, 1]), network.initial_state(2))
        assert actions.tolist() == [[-1.0, 0.25]] * 2

    def test_observations_are_normalised_and_left_alone(self) -> None:
        network = build(obs_clip=0.75)
        network.obs_moments.epsilon = 0.0
        # every feature: mean 10, standard deviation 4
        network.obs_moments.update(torch.tensor([[6.0] * OBS, [14.0] * OBS]))
        raw = torch.tensor([[10.0, 12.0, 8.0, 100.0, -100.0]])
        actions, _ = network.act(raw, torch.tensor([1]), network.initial_state(1))
        assert raw.tolist() == [[10.0, 12.0, 8.0, 100.0, -100.0]]
        by_hand = torch.tensor([[0.0, 0.5, -0.5, 0.75, -0.75]])
        torch.testing.assert_close(actions, see(network, by_hand, [1]).actions.mean.clamp(-1, 1))


def test_save_and_load_keeps_weights_genes_and_moments() -> None:
    saved, loaded = build(seed=1, lstm_units=UNITS), build(seed=2, lstm_units=UNITS)
    saved.obs_moments.update(torch.randn(20, OBS) * 3 + 1)
    saved.update_value_moments(torch.randn(20) + 5)
    loaded.load_state_dict(saved.state_dict())
    obs, agents = torch.randn(3, OBS), torch.tensor([0, 1, 2])
    assert torch.equal(
        saved.act(obs, agents, saved.initial_state(3))[0], loaded.act(obs, agents, loaded.initial_state(3))[0]
    )
    assert torch.equal(loaded.value_moments.mean, saved.value_moments.mean)
    assert torch.equal(loaded.genes, saved.genes)
