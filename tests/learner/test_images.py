"""Images: who sees them, in which order of pixels, and what an encoder makes of them."""

import re
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.envs.base import EnvSpec
from epo_lightning.experience.diversity import Diversity
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.deterministic import DeterministicActor, PQLNetworkSettings
from epo_lightning.learner.images import ImageEncoder
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.observations import Group
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.learner.q_networks import SACNetworkSettings, SquashedActor, TwinCritic
from epo_lightning.learner.stacked_actor import CEMNetworkSettings, StackedActor
from epo_lightning.learner.stacked_critic import StackedCritic
from epo_lightning.learner.stacked_images import SeeingTrunk
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.limits import Mistake

GROUPS = (Group("pose", 2), Group("eye", (5, 4, 3)), Group("truth", (2, 2, 1), privileged=True))
O, P, A, K = 66, 62, 2, 2
CPU = torch.device("cpu")


def build(**settings: object) -> LatentActorCritic:
    torch.manual_seed(0)
    chosen = {"gene_dim": 2, "hidden": (8,), "image_channels": (4, 5), "image_features": 6, "separate_critic": True}
    return LatentActorCritic(O, A, K, NetworkSettings(**{**chosen, **settings}), groups=GROUPS)  # type: ignore[arg-type]


def test_an_encoder_is_convolutions_of_the_image_and_a_linear_layer_beside_the_vectors() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(GROUPS[:2], (4,), 3, torch.nn.ReLU)
    conv, _, _, linear, _ = (each for each in encoder.towers[0].children())
    assert isinstance(conv, torch.nn.Conv2d)
    assert isinstance(linear, torch.nn.Linear)
    assert conv.weight.shape == (4, 3, 3, 3)
    assert linear.weight.shape == (3, 4 * 3 * 2)  # 5 x 4 becomes 3 x 2
    assert encoder.outputs == 2 + 3
    assert encoder.reuses == 9 * 3 * 4 * (3 * 2 - 1)
    obs = torch.rand(7, P)
    # channels are last in the row: entry ((row * 4) + column) * 3 + channel
    image = obs[:, 2:].view(7, 5, 4, 3).permute(0, 3, 1, 2)
    features = linear(conv(image).relu().flatten(1)).relu()
    torch.testing.assert_close(encoder(obs), torch.cat([obs[:, :2], features], dim=1))
    torch.testing.assert_close(encoder(obs.view(7, 1, P))[:, 0], encoder(obs))


@pytest.mark.parametrize("lstm_units", [None, 4])
def test_a_privileged_image_is_the_critic_s_alone(lstm_units: int | None) -> None:
    policy = build(lstm_units=lstm_units)
    obs = torch.rand(3, K, O, requires_grad=True)
    rows, state = policy.express(torch.tensor([0, 1])), policy.initial_state(K)
    output = policy(obs, rows, state)
    for value, wanted in ((output.actions[0], [True] * P + [False] * 4), (output.value, [True] * O)):
        gradient = torch.autograd.grad(value.sum(), obs, retain_graph=True)[0]
        assert (gradient.flatten(0, 1) != 0).any(0).tolist() == wanted
    raw = 255 * torch.rand(K, O)
    seen, _ = policy.act(raw[:, :P], torch.tensor([0, 1]), state)
    assert torch.equal(seen, policy.act(raw, torch.tensor([0, 1]), state)[0])


def test_weights_of_convolutions_count_as_often_as_they_are_used() -> None:
    policy = build()
    weights = sum(parameter.numel() for parameter in policy.parameters())
    # actor: 5 x 4 x 3 -> 3 x 2 x 4 -> 2 x 1 x 5; critic: the same, and 2 x 2 x 1 -> 1 x 1 x 4 -> 1 x 1 x 5
    eye = 9 * 3 * 4 * (3 * 2 - 1) + 9 * 4 * 5 * (2 * 1 - 1)
    assert policy.parameters_per_row == weights + 2 * eye


def test_pixels_are_divided_by_255_whatever_was_seen() -> None:
    moments = RunningMoments((3,), clip=5.0, pixels=[slice(1, 3)])
    moments.update(torch.tensor([[1.0, 200.0, 10.0], [3.0, 220.0, 30.0]]))
    torch.testing.assert_close(
        moments.normalize(torch.tensor([[4.0, 255.0, 51.0]])), torch.tensor([[2.0, 1.0, 0.2]]), rtol=1e-4, atol=1e-4
    )
    assert build().obs_moments.pixels == [slice(2, 62), slice(62, 66)]


def seeing(algorithm: str, **settings: object) -> NormalizingPolicy:
    """An actor of another algorithm, with small encoders."""
    torch.manual_seed(0)
    chosen: dict[str, Any] = {"image_channels": (4, 5), "image_features": 6, **settings}
    if algorithm == "sac":
        return SquashedActor(O, A, SACNetworkSettings((8,), (8,), **chosen), GROUPS)
    if algorithm == "pql":
        return DeterministicActor(O, A, PQLNetworkSettings((8,), (8,), **chosen), GROUPS)
    if algorithm == "cem_rl":
        return StackedActor(K, O, A, CEMNetworkSettings((8,), (8,), **chosen), GROUPS)
    chosen = {"hidden": (8,), "separate_critic": True, **chosen}
    return StackedActorCritic(O, A, K, ActorCriticSettings(**chosen), groups=GROUPS)


@pytest.mark.parametrize("lstm_units", [None, 4])
def test_networks_that_share_nothing_look_each_through_an_encoder_of_its_own(lstm_units: int | None) -> None:
    policy = seeing("pbt", lstm_units=lstm_units)
    assert isinstance(policy, StackedActorCritic)
    assert isinstance(policy.actor, SeeingTrunk)
    obs = torch.rand(K, 7, P)
    seen = policy.actor.encoder(obs)
    for agent in range(K):
        one = ImageEncoder(GROUPS[:2], (4, 5), 6, torch.nn.ELU)
        weights = [table[agent] for table in policy.actor.encoder.parameters()]
        for parameter, weight in zip(one.parameters(), weights, strict=True):
            parameter.data.copy_(weight)
        torch.testing.assert_close(seen[agent], one(obs[agent]))
        torch.testing.assert_close(policy.actor.encoder(obs[[agent]], torch.tensor([agent]))[0], seen[agent])
    assert not torch.allclose(seen[0, :, 2:], seen[1, :, 2:])
    assert policy.actor.encoder.reuses == one.reuses
    sequence = torch.rand(K, 3, 7, O)
    state = torch.rand(policy.state_shape[0], K, 7, policy.state_shape[1])
    whole = policy.of_blocks(sequence, state)
    step = policy.of_blocks(sequence[:, 0], state)
    torch.testing.assert_close(whole.actions[0][:, 0], step.actions[0])
    torch.testing.assert_close(whole.value[:, 0], step.value)


def test_actors_and_critics_of_cem_rl_look_each_through_an_encoder_of_its_own() -> None:
    policy = seeing("cem_rl")
    assert isinstance(policy, StackedActor)
    normal = torch.rand(K, 7, O, requires_grad=True)
    actions = policy(normal)
    for agent in range(K):
        encoder = ImageEncoder(GROUPS[:2], (4, 5), 6, torch.nn.Tanh)
        one = torch.nn.Sequential(
            encoder, torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, A), torch.nn.Tanh()
        )
        torch.nn.utils.vector_to_parameters(policy.flat()[agent], one.parameters())
        torch.testing.assert_close(actions[agent], one(normal[agent, :, :P]))
    raw, ids = 255 * torch.rand(4, O), torch.tensor([1, 0, 1, 1])
    acted, _ = policy.act(raw, ids, policy.initial_state(4))
    torch.testing.assert_close(acted, policy(policy.obs_moments.normalize(raw).expand(K, 4, O))[ids, torch.arange(4)])

    settings = CEMNetworkSettings((8,), (8,), image_channels=(4, 5), image_features=6)
    critics = [TwinCritic(O, A, settings.of_critics, GROUPS) for _ in range(3)]
    weights = [torch.stack(parts) for parts in zip(*map(StackedCritic.weights_of, critics), strict=True)]
    obs, tried = torch.rand(3, 7, O), torch.rand(3, 7, A)
    values = StackedCritic(3, O, A, settings, GROUPS).values(weights, obs, tried)
    for row, critic in enumerate(critics):
        torch.testing.assert_close(values[row], critic(obs[row], tried[row]).mean()[0])


def test_who_becomes_another_agent_sees_as_that_one_does() -> None:
    policy = seeing("pbt")
    assert isinstance(policy, StackedActorCritic)
    raw, ids = 255 * torch.rand(1, O).expand(2, O), torch.tensor([0, 1])
    before, _ = policy.act(raw, ids, policy.initial_state(2))
    policy.copy_agents(torch.tensor([1]), torch.tensor([0]))
    after, _ = policy.act(raw, ids, policy.initial_state(2))
    assert not torch.allclose(before[0], before[1])
    torch.testing.assert_close(after[1], before[0])


@pytest.mark.parametrize("algorithm", ["sac", "pql"])
def test_an_actor_sees_its_images_and_the_critics_all_of_them(algorithm: str) -> None:
    policy = seeing(algorithm)
    assert isinstance(policy, SquashedActor | DeterministicActor)
    head = policy.mlp[-1]
    assert isinstance(head, torch.nn.Linear)
    torch.nn.init.normal_(head.weight)  # a new actor of SAC does nothing
    normal = torch.rand(3, O, requires_grad=True)
    decided = policy(normal)
    acted = decided if algorithm == "pql" else decided.mode()
    gradient = torch.autograd.grad(acted.sum(), normal)[0]
    assert (gradient != 0).any(0).tolist() == [True] * P + [False] * 4
    critic = TwinCritic(O, A, policy_settings(algorithm), GROUPS)
    obs, actions = torch.rand(3, O, requires_grad=True), torch.rand(3, A, requires_grad=True)
    values = critic(obs, actions).mean()
    of_obs, of_actions = torch.autograd.grad(values.sum(), (obs, actions))
    assert bool((of_obs != 0).any(0).all())
    assert bool((of_actions != 0).all())
    assert values.shape == (2, 3)


def policy_settings(algorithm: str) -> SACNetworkSettings | PQLNetworkSettings:
    """Of small critics."""
    kind = SACNetworkSettings if algorithm == "sac" else PQLNetworkSettings
    return kind((8,), (8,), atoms=None, image_channels=(4,), image_features=6)


@pytest.mark.parametrize("algorithm", ["sac", "pql", "pbt", "cem_rl"])
def test_pixels_are_no_statistics_of_the_others_either(algorithm: str) -> None:
    moments = seeing(algorithm).obs_moments
    moments.update(100 + 50 * torch.rand(4, K, O))
    assert torch.allclose(moments.normalizer().scale[..., 2:], torch.tensor(1 / 255))
    assert torch.equal(moments.mean[..., 2:], torch.zeros_like(moments.mean[..., 2:]))
    assert (moments.mean[..., :2] > 100).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: build(image_channels=()), "model.network.image_channels [] takes vectors"),
        (lambda: seeing("sac", image_channels=()), "model.network.image_channels [] takes vectors"),
        (lambda: seeing("pql", image_channels=()), "model.network.image_channels [] takes vectors"),
        (lambda: seeing("pbt", image_channels=()), "model.network.image_channels [] takes vectors"),
        (lambda: seeing("cem_rl", image_channels=()), "model.network.image_channels [] takes vectors"),
        (
            lambda: Diversity(EnvSpec("Eye", 2, O, A, groups=GROUPS), K, DiversitySettings(0.1), CPU, 0),
            "model.diversity.coefficient takes vectors",
        ),
    ],
)
def test_who_has_no_encoder_refuses_images(make: object, words: str) -> None:
    line = f"^{re.escape(words)}, and the task's observation has the image eye 5 x 4 x 3: "
    with pytest.raises(Mistake, match=line):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(("key", "value"), [("image_channels", (0,)), ("image_features", 0)])
def test_sizes_that_make_no_encoder_are_refused(key: str, value: object) -> None:
    for settings in (NetworkSettings, ActorCriticSettings, SACNetworkSettings, PQLNetworkSettings, CEMNetworkSettings):
        with pytest.raises(Mistake, match=f"model.network.{key} must be at least 1"):
            settings(**{key: value})  # type: ignore[arg-type]
