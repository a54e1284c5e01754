"""Mirror images of a rollout: observations under any normaliser, moments, recurrent states."""

import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.independent import IndependentBatch
from epo_lightning.algorithm.symmetry import SignedPermutation, Symmetry, signs
from epo_lightning.experience.mirror import Mirror
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.limits import Mistake
from tests.support.scripted import NETWORKS, A, N, O, Scripted, T, make_dataset, make_policy, minibatches, with_endings

MAP = Symmetry(SignedPermutation(torch.tensor([1, 0, 2]), torch.tensor([1.0, 1.0, -1.0])), signs([-1.0, 1.0]))


class Mirrored(Scripted):
    """The tables with a map, which they do not keep to: nobody asks."""

    def symmetry(self) -> Symmetry:
        return MAP


def mirrored() -> Mirrored:
    env, tables = Mirrored(), with_endings()
    env.terminated, env.truncated = tables.terminated, tables.truncated
    return env


def test_the_image_of_a_normalised_observation_is_the_normalised_image() -> None:
    env, policy = mirrored(), make_policy()
    with torch.no_grad():
        policy.obs_moments.update(torch.tensor([3.0, -1.0, 0.5]) + torch.randn(200, O))
    normalize = policy.obs_moments.normalizer()
    dataset = make_dataset(env, policy, symmetry=True, off_policy_ratio=0.0, num_minibatches=1, num_epochs=1)
    (rollout,) = dataset
    mirror, order = dataset.mirror, torch.arange(T * N)
    assert mirror is not None
    (batch,) = rollout.minibatches(order, 1)
    image = mirror.image(batch, batch.states)
    raw = env.obs[:T].reshape(-1, O)
    inside = (normalize(raw).abs() < 5).all(1)  # what was clipped is lost
    assert inside.sum() > 20
    torch.testing.assert_close(image.obs[inside], normalize(MAP.obs(raw))[inside], rtol=1e-4, atol=1e-5)
    assert torch.equal(image.actions, batch.actions * torch.tensor([-1.0, 1.0]))
    for name in ("log_probs", "log_mu", "values", "targets", "advantages", "agent_ids", "off_policy"):
        assert torch.equal(getattr(image, name), getattr(batch, name)), name


def test_the_normaliser_takes_in_both_and_becomes_symmetric_to_the_bit() -> None:
    env, policy = mirrored(), make_policy()
    policy.obs_moments = RunningMoments((O,), clip=5.0)
    dataset, expected = make_dataset(env, policy, symmetry=True), RunningMoments((O,))
    for start in (0, T):
        minibatches(dataset)
        raw = env.obs[start : start + T].reshape(-1, O)
        expected.update(torch.cat([raw, MAP.obs(raw)]))
    moments = policy.obs_moments
    assert moments.count == expected.count
    torch.testing.assert_close(moments.mean, expected.mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(moments.var, expected.var, rtol=1e-6, atol=0)
    assert torch.equal(MAP.obs.signs * moments.mean[MAP.obs.order], moments.mean)
    assert torch.equal(moments.var[MAP.obs.order], moments.var)
    assert dataset.mirror is not None
    dataset.mirror.begin(moments)
    ((batch, image), *_) = dataset.one_pass_with_images()
    assert image is not None
    assert torch.equal(image.obs, MAP.obs(batch.obs))  # no rounding any more
    assert torch.equal(dataset.mirror.image(image, image.states).obs, batch.obs)


@pytest.mark.parametrize("network", ["lstm", "separate critic, lstm"])
def test_the_image_has_the_recurrent_state_of_who_saw_the_mirrored_episode(network: str) -> None:
    env, policy = mirrored(), make_policy(**NETWORKS[network])
    normalize = policy.obs_moments.normalizer()
    dataset = make_dataset(env, policy, symmetry=True, num_epochs=1)
    (rollout,) = dataset
    assert (rollout.image_states == 0).all()  # episodes begin
    state, policies = policy.initial_state(N), policy.express(dataset.agent_ids)
    for t in range(T):
        with torch.no_grad():
            state = policy(normalize(MAP.obs(env.obs[t])), policies, state).state
        state = state.masked_fill((env.terminated[t] | env.truncated[t])[:, None], 0.0)
    assert dataset.mirror is not None
    torch.testing.assert_close(dataset.mirror.state, state, rtol=1e-3, atol=1e-4)
    assert (dataset.mirror.state != dataset.state).any()

    begun = dataset.mirror.state.clone()
    (rollout,) = dataset
    for place, (batch, image) in enumerate(dataset.one_pass_with_images()):
        units = dataset._passes[-1].tensor_split(4)[place]
        assert image is not None
        assert torch.equal(image.states, rollout.image_states[:, units])
        assert torch.equal(batch.states, rollout.states[:, units])
        assert torch.equal(image.resets, batch.resets)
    assert torch.equal(rollout.image_states[:, :N], begun)
    columns = slice(N, rollout.shape.columns)  # a follower's, seen by the master: it begins where the follower's does
    for column in range(columns.start, columns.stop):
        same = (rollout.states[:, :N] == rollout.states[:, column : column + 1]).all(-1).all(0)
        origin = int(same.nonzero()[0])
        assert torch.equal(rollout.image_states[:, column], begun[:, origin])
    dataset.start_new_gene(torch.tensor([1]))
    assert (dataset.mirror.state[:, 2:4] == 0).all()
    assert (dataset.mirror.state[:, :2] != 0).any()


def test_every_agent_of_independent_ones_has_its_own_normaliser() -> None:
    policy = StackedActorCritic(O, A, 2, ActorCriticSettings(hidden=(4,)))
    raw = torch.stack([torch.tensor([3.0, -1.0, 0.5]), torch.tensor([0.0, 2.0, 1.0])])[:, None] + torch.rand(2, 7, O)
    policy.obs_moments.update(raw.flatten(0, 1))
    mirror = Mirror(MAP, policy, 14, torch.no_grad, torch.device("cpu"))
    mirror.begin(policy.obs_moments)

    def image(obs: Tensor, agents: Tensor | None = None) -> IndependentBatch:
        none, actions, states = torch.zeros(len(obs), 7), torch.ones(len(obs), 7, A), torch.zeros(0, len(obs), 7, 0)
        batch = IndependentBatch(obs, actions, none, none, none, none, states, None)
        return mirror.image(batch, states, agents)

    normalize = policy.obs_moments.normalizer()
    seen, wanted = (normalize(each.flatten(0, 1)).unflatten(0, (2, 7)) for each in (raw, MAP.obs(raw)))
    torch.testing.assert_close(image(seen).obs, wanted, rtol=1e-4, atol=1e-4)
    one = image(seen[1:], torch.tensor([1]))
    torch.testing.assert_close(one.obs, wanted[1:], rtol=1e-4, atol=1e-4)


def test_choices_change_places() -> None:
    spec_map = Symmetry(signs([-1.0] * O), SignedPermutation(torch.tensor([2, 1, 0]), torch.ones(3)))
    policy = make_policy()
    policy.discrete = True
    mirror = Mirror(spec_map, policy, N, torch.no_grad, torch.device("cpu"))
    nothing, choices = torch.zeros(3), torch.tensor([[0.0], [1.0], [2.0]])
    fields = dict.fromkeys(RolloutBatch._fields, nothing) | {"obs": torch.ones(3, O), "actions": choices}
    assert mirror.image(RolloutBatch(**fields), nothing).actions.tolist() == [[2.0], [1.0], [0.0]]


def test_who_has_no_image_is_refused_when_the_rollouts_are_made() -> None:
    with pytest.raises(Mistake, match=r"rollout\.symmetry: Scripted has no mirror image"):
        make_dataset(symmetry=True)
