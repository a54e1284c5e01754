"""Learning from mirror images: the gradient, what it makes of a policy, resuming, and who refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from epo_lightning.algorithm.independent import IndependentLossSettings
from epo_lightning.envs.classic import Pendulum, Probe, WallMaze
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.networks import LatentActorCritic
from epo_lightning.limits import Mistake
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.pbt import PBTModule
from tests.support.command_line import Cli, refused
from tests.support.sameness import assert_same, final_state
from tests.support.training import fit, small_data, small_module

MAZE = "--data.env=epo_lightning.envs.classic.WallMaze"


def maze(num_envs: int, device: torch.device, seed: int) -> WallMaze:
    return WallMaze(num_envs, device, seed, max_steps=6)


def population(*, symmetry: bool, **network: Any) -> PopulationModule:
    return small_module(rollout={"symmetry": symmetry, "num_epochs": 2}, **network)


def independent(*, symmetry: bool, **network: Any) -> PopulationModule:
    torch.manual_seed(0)
    rollout = OnPolicySettings(horizon=4, num_epochs=2, num_minibatches=2, symmetry=symmetry)
    settings = ActorCriticSettings(hidden=(8,), **network)
    return PBTModule(4, settings, IndependentLossSettings(), rollout=rollout)


def asymmetry(module: PopulationModule) -> float:
    """The largest difference between what a mirrored agent does and the mirror image of what it does."""
    env, policy = maze(64, torch.device("cpu"), 7), module.policy
    obs, symmetry = env.reset(), env.symmetry()
    agents, state = torch.arange(64) % 4, policy.initial_state(64)
    ours, theirs = (policy.act(each, agents, state)[0] for each in (obs, symmetry.obs(obs)))
    return (symmetry.actions(ours) - theirs).abs().max().item()


def test_the_loss_is_the_mean_over_samples_and_images(tmp_path: Path) -> None:
    module = population(symmetry=True)
    fit(module, small_data(env=maze), tmp_path, iterations=2)
    dataset, policy = module.dataset, module.policy
    assert isinstance(policy, LatentActorCritic)
    ((batch, image), *_) = dataset.one_pass_with_images()  # type: ignore[attr-defined]
    both = [batch, image]
    joint = batch._replace(
        **{name: torch.cat([getattr(each, name) for each in both]) for name in batch._fields if name != "states"}
    )
    gradients = []
    for losses in ([module._loss(each).total for each in both], [module._loss(joint).total]):  # type: ignore[operator]
        loss = torch.stack(losses).mean()
        gradients.append(torch.autograd.grad(loss, [policy.action_head.weight, policy.value_head.weight, policy.genes]))
    for separate, together in zip(*gradients, strict=True):
        torch.testing.assert_close(separate, together, rtol=1e-4, atol=1e-7)
        assert separate.abs().max() > 0


@pytest.mark.parametrize("make", [population, independent])
@pytest.mark.parametrize("network", [{}, {"lstm_units": 6}, {"lstm_units": 6, "separate_critic": True}])
def test_every_network_learns_from_images_and_learns_something_else(
    make: Callable[..., PopulationModule], network: dict[str, Any], tmp_path: Path
) -> None:
    weights = []
    for symmetry in (False, True):
        module = make(symmetry=symmetry, **network)
        fit(module, small_data(env=maze), tmp_path, iterations=3)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in module.policy.parameters()]))
        assert weights[-1].isfinite().all()
        mean = module.policy.obs_moments.mean
        assert torch.equal(mean * torch.tensor([1.0, -1.0]), mean) is symmetry  # type: ignore[operator, arg-type]
    assert not torch.equal(*weights)


def test_a_policy_that_learns_from_images_becomes_more_symmetric(tmp_path: Path) -> None:
    found = []
    for symmetry in (False, True):
        module = small_module(rollout={"symmetry": symmetry, "num_epochs": 4, "horizon": 16}, hidden=(32,))
        fit(module, small_data(64, env=maze), tmp_path, iterations=20)
        found.append(asymmetry(module))
    assert found[1] < 0.5 * found[0]


def test_a_task_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"model\.rollout\.symmetry: Probe has no mirror image"):
        fit(population(symmetry=True), small_data(), tmp_path)
    with pytest.raises(Mistake, match=r"model\.rollout\.symmetry: Probe has no mirror image"):
        fit(independent(symmetry=True), small_data(env=lambda n, d, s: Probe(n, d, s)), tmp_path)
    fit(population(symmetry=True), small_data(env=lambda n, d, s: Pendulum(n, d, s)), tmp_path, iterations=1)


def test_a_run_that_was_cut_goes_on_to_the_bit(cli: Cli) -> None:
    settings = ("--data.env.init_args.max_steps=7", "--model.rollout.symmetry", "--model.network.lstm_units=5")
    given = ("fit", "--config", "tiny.yaml", MAZE, *settings)
    assert cli(*given, "--trainer.max_epochs=4", "--run_dir=whole").code == 0
    assert cli(*given, "--trainer.max_epochs=2", "--run_dir=cut").code == 0
    assert cli("fit", "--ckpt_path=cut", "--trainer.max_epochs=4").code == 0
    assert_same(final_state("whole"), final_state("cut"))
    assert (final_state("whole")["ranks"][0]["image_state"] != 0).any()


def test_images_from_the_middle_of_a_run_with_an_lstm_are_told(cli: Cli) -> None:
    assert cli("fit", "--config", "tiny.yaml", MAZE, "--model.network.lstm_units=5", "--run_dir=a").code == 0
    with pytest.warns(UserWarning, match=r"model\.rollout\.symmetry true begins in the middle of episodes"):
        assert cli("fit", "--ckpt_path=a", "--trainer.max_epochs=4", "--model.rollout.symmetry=true").code == 0
    assert cli("fit", "--ckpt_path=a", "--trainer.max_epochs=5").code == 0  # and does not warn again


def test_who_cannot_says_so_in_one_line(cli: Cli) -> None:
    outcome = cli("fit", "--config", "tiny.yaml", "--model.rollout.symmetry=true")
    refused(outcome, "model.rollout.symmetry: Probe has no mirror image")
    arm = ("--data.env=epo_lightning.envs.allegro_kuka.AllegroKuka", "--data.env.init_args.task=single_arm_regrasp")
    outcome = cli("fit", "--config", "tiny.yaml", *arm, "--model.rollout.symmetry=true")
    refused(outcome, "AllegroKuka/single_arm_regrasp has no mirror image: it has one arm")
    refused(cli("fit", "--config", "sac", "--model.replay.symmetry=true"), "symmetry")
