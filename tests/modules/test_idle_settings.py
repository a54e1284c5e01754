"""A value that can have no effect is told in one line; defaults are not."""

from typing import Any

import pytest

from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.experience.settings import OnPolicySettings, RolloutSettings
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.learner.initial import GeneInitialSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.observations import Group
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.learner.q_networks import SACNetworkSettings
from epo_lightning.modules import epo
from epo_lightning.modules.idle_settings import idle_encoders, idle_noise, idle_settings
from tests.support.command_line import Cli


def told(
    agents: int,
    rollout: RolloutSettings = RolloutSettings(),  # noqa: B008  (frozen)
    loss: LossSettings = LossSettings(),  # noqa: B008
    network: NetworkSettings = NetworkSettings(),  # noqa: B008
    diversity: DiversitySettings = DiversitySettings(),  # noqa: B008
    initial: GeneInitialSettings = GeneInitialSettings(),  # noqa: B008
) -> str:
    return idle_settings(agents, network, rollout, loss, diversity, initial)


def test_the_rate_of_genes_of_one_agent() -> None:
    settings = (RolloutSettings(), LossSettings(), DiversitySettings(), GeneInitialSettings())
    line = idle_settings(1, NetworkSettings(), *settings, GeneOptimizerSettings(gene_rate=0.25))
    assert line == "Without effect: model.optimizer.gene_rate 0.25 (model.num_agents is 1)"
    assert idle_settings(2, NetworkSettings(), *settings, GeneOptimizerSettings(gene_rate=0.25)) == ""


@pytest.mark.parametrize(
    ("agents", "rollout", "loss", "words"),
    [
        (1, {}, {"entropy_scale": 0.1}, ["model.loss.entropy_scale 0.1", "num_agents is 1", "entropy_floor"]),
        (1, {"off_policy_ratio": 2.0, "mu_cap": 1.0}, {}, ["off_policy_ratio 2.0", "model.rollout.mu_cap 1.0"]),
        (4, {"off_policy_ratio": 0.0}, {"off_policy_clip": "unit"}, ["off_policy_clip unit", "off_policy_ratio is 0"]),
        (4, {"n_step": 5}, {}, ["model.rollout.n_step 5", "model.rollout.estimator is gae"]),
        (4, {"estimator": "n_step", "gae_lambda": 0.9}, {}, ["model.rollout.gae_lambda 0.9", "estimator is n_step"]),
        (4, {}, {"value_coefficient": 0.0, "value_clip_eps": 0.1}, ["model.loss.value_clip_eps 0.1"]),
        (4, {"coupling_followers": 2}, {}, ["model.rollout.coupling_followers 2", "coupling_coefficient is 0"]),
        (4, {}, {"coupling_temperature": 0.1}, ["model.loss.coupling_temperature 0.1", "coupling_coefficient is 0"]),
    ],
)
def test_each_is_named_with_its_reason(
    agents: int, rollout: dict[str, Any], loss: dict[str, Any], words: list[str]
) -> None:
    line = told(agents, RolloutSettings(**rollout), LossSettings(**loss))
    assert line.startswith("Without effect: ")
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("agents", "rollout", "loss"),
    [
        (1, {}, {"entropy_floor": 0.02, "dual_clip": 3.0}),
        (1, {"off_policy_ratio": 0.0}, {}),
        (4, {"mu_cap": 1.0}, {"entropy_scale": 0.2}),
        (4, {"estimator": "n_step", "n_step": 5}, {"off_policy_clip": "unit"}),
        (4, {"coupling_followers": 2}, {"coupling_coefficient": 1e-3, "coupling_temperature": 0.1}),
    ],
)
def test_what_has_an_effect_is_not(agents: int, rollout: dict[str, Any], loss: dict[str, Any]) -> None:
    assert told(agents, RolloutSettings(**rollout), LossSettings(**loss)) == ""


def test_the_training_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    lines_told: list[str] = []
    monkeypatch.setattr(epo, "rank_zero_info", lines_told.append)
    for args, lines in (([], 0), (["--model.rollout.n_step=5"], 1)):
        lines_told.clear()
        assert cli("fit", "--config", "tiny.yaml", "--trainer.max_epochs", 1, *args).code == 0
        assert sum(line.startswith("Without effect: model.rollout.n_step 5") for line in lines_told) == lines


def test_a_classifier_that_nobody_asks() -> None:
    line = told(4, diversity=DiversitySettings(hidden=(8,), num_minibatches=3))
    for name, value in (("hidden", "(8,)"), ("num_minibatches", "3")):
        assert f"model.diversity.{name} {value} (model.diversity.coefficient is 0)" in line
    assert told(4, diversity=DiversitySettings(coefficient=0.01, hidden=(8,), num_minibatches=3)) == ""


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ({"gene_dim": 0}, "model.network.gene_dim is 0"),
        ({"hidden": ()}, "model.network.hidden has no layer"),
        ({"lstm_units": 8}, "model.network.lstm_units is set: the gene enters the LSTM"),
    ],
)
def test_a_first_layer_that_no_gene_enters(network: dict[str, Any], reason: str) -> None:
    initial = GeneInitialSettings(fan_in="own", gene_gain=0.5, action_gain=4.0)
    line = told(1, network=NetworkSettings(**network), initial=initial)
    assert line == f"Without effect: model.initial.fan_in own ({reason}); model.initial.gene_gain 0.5 ({reason})"
    assert told(4, initial=initial) == ""


def test_noise_that_is_not_correlated() -> None:
    correlated = RolloutSettings(noise_correlation=0.9)
    network, rest = NetworkSettings(), (LossSettings(), DiversitySettings(), GeneInitialSettings())
    for agents in (1, 4):
        line = idle_settings(agents, network, correlated, *rest, discrete=True)
        assert line == "Without effect: model.rollout.noise_correlation 0.9 (the task has choices for actions)"
        assert idle_settings(agents, network, correlated, *rest) == ""
        share = RolloutSettings(correlated_share=0.5)
        line = "Without effect: model.rollout.correlated_share 0.5 (model.rollout.noise_correlation is 0)"
        assert idle_settings(agents, network, share, *rest) == line


def test_an_encoder_without_images_is_told() -> None:
    network = NetworkSettings(image_channels=(8,), image_features=16)
    line = told(4, network=network)
    for word in ("model.network.image_channels (8,)", "model.network.image_features 16", "the task has no images"):
        assert word in line
    settings = RolloutSettings(), LossSettings(), DiversitySettings(), GeneInitialSettings()
    assert idle_settings(4, network, *settings, images=True) == ""


def test_networks_of_other_algorithms_say_so_too() -> None:
    line = "Without effect: model.network.image_features 8 (the task has no images)"
    for settings in (ActorCriticSettings, SACNetworkSettings, PQLNetworkSettings):
        assert idle_encoders(settings(image_features=8), (Group("pose", 2),)) == line
        assert idle_encoders(settings(image_features=8), (Group("eye", (4, 4, 1)),)) == ""
    assert idle_noise(OnPolicySettings(correlated_share=0.5), False).endswith("(model.rollout.noise_correlation is 0)")
    assert idle_noise(OnPolicySettings(noise_correlation=0.5, correlated_share=0.5), False) == ""
    assert idle_noise(OnPolicySettings(noise_correlation=0.5), True).endswith("(the task has choices for actions)")
