"""Settings that were given and that nothing reads: a notice says that they have no effect."""

from collections.abc import Mapping
from dataclasses import fields

from epo_lightning.algorithm.diversity import DiversitySettings
from epo_lightning.algorithm.losses import LossSettings
from epo_lightning.experience.settings import OnPolicySettings, RolloutSettings
from epo_lightning.learner.images import ImageSettings
from epo_lightning.learner.initial import GeneInitialSettings
from epo_lightning.learner.networks import NetworkSettings
from epo_lightning.learner.observations import Groups, pixels
from epo_lightning.learner.optimizer import GeneOptimizerSettings

_Settings = (
    OnPolicySettings | LossSettings | DiversitySettings | GeneInitialSettings | ImageSettings | GeneOptimizerSettings
)
_OF_SEVERAL = ("model.rollout.master_share", "model.rollout.off_policy_ratio", "model.optimizer.gene_rate")
_OFF_POLICY = (
    "model.rollout.off_policy_source",
    "model.rollout.mu_cap",
    "model.loss.off_policy_clip",
    "model.loss.off_policy_weight",
)


def idle_settings(
    num_agents: int,
    network: NetworkSettings,
    rollout: RolloutSettings,
    loss: LossSettings,
    diversity: DiversitySettings,
    initial: GeneInitialSettings,
    optimizer: GeneOptimizerSettings = GeneOptimizerSettings(),  # noqa: B008  (frozen)
    discrete: bool = False,
    images: bool = False,
) -> str:
    """One line that names the values without effect and the reason of each; empty where every value has one.

    Args:
        num_agents: K.
        network: Of the network.
        rollout: Of the rollouts.
        loss: Of the hybrid loss.
        diversity: Of the reward for being told apart.
        initial: Of a new network.
        optimizer: Of the steps.
        discrete: The task has choices for actions.
        images: The task's observation has some.
    """
    reasons: dict[str, str] = {}
    if num_agents == 1:
        one_agent = "model.num_agents is 1"
        reasons |= dict.fromkeys((*_OF_SEVERAL, *_OFF_POLICY), one_agent)
        reasons["model.loss.entropy_scale"] = f"{one_agent}: the master's entropy is model.loss.entropy_floor"
    elif rollout.off_policy_ratio == 0:
        reasons |= dict.fromkeys(_OFF_POLICY, "model.rollout.off_policy_ratio is 0")
    unread = "n_step" if rollout.estimator == "gae" else "gae_lambda"
    reasons[f"model.rollout.{unread}"] = f"model.rollout.estimator is {rollout.estimator}"
    if loss.coupling_coefficient == 0:
        uncoupled = "model.loss.coupling_coefficient is 0"
        reasons |= dict.fromkeys(("model.rollout.coupling_followers", "model.loss.coupling_temperature"), uncoupled)
    reasons |= _of_noise(rollout, discrete)
    reasons |= _of_encoders(images)
    if diversity.coefficient == 0:
        classifier = ("hidden", "learning_rate", "num_minibatches")
        reasons |= {f"model.diversity.{name}": "model.diversity.coefficient is 0" for name in classifier}
    if loss.value_coefficient == 0:
        reasons["model.loss.value_clip_eps"] = "model.loss.value_coefficient is 0"
    of_first_layer = ("model.initial.fan_in", "model.initial.gene_gain")
    if network.lstm_units is not None:
        reasons |= dict.fromkeys(of_first_layer, "model.network.lstm_units is set: the gene enters the LSTM")
    elif not network.gene_dim or not network.hidden:
        what = "hidden has no layer" if network.gene_dim else "gene_dim is 0"
        reasons |= dict.fromkeys(of_first_layer, f"model.network.{what}")
    groups: dict[str, _Settings] = {"rollout": rollout, "loss": loss, "diversity": diversity, "initial": initial}
    groups |= {"network": network, "optimizer": optimizer}
    return _line(reasons, groups)


def idle_noise(rollout: OnPolicySettings, discrete: bool) -> str:
    """The same of the exploration noise.

    Args:
        rollout: Of the rollouts.
        discrete: The task has choices for actions.
    """
    return _line(_of_noise(rollout, discrete), {"rollout": rollout})


def idle_encoders(network: ImageSettings, groups: Groups) -> str:
    """The same of encoders, where an observation's groups have no image.

    Args:
        network: Of the network.
        groups: Of the observation.
    """
    return _line(_of_encoders(bool(pixels(groups))), {"network": network})


def _of_noise(rollout: OnPolicySettings, discrete: bool) -> dict[str, str]:
    """Why each setting of the noise has no effect."""
    names = ("model.rollout.noise_correlation", "model.rollout.correlated_share")
    if discrete:
        return dict.fromkeys(names, "the task has choices for actions")
    return {} if rollout.noise_correlation else {names[1]: "model.rollout.noise_correlation is 0"}


def _of_encoders(images: bool) -> dict[str, str]:
    """Why each setting of an encoder has no effect."""
    encoder = ("model.network.image_channels", "model.network.image_features")
    return {} if images else dict.fromkeys(encoder, "the task has no images")


def _line(reasons: Mapping[str, str], groups: Mapping[str, _Settings]) -> str:
    given = {key: value for name, group in groups.items() for key, value in _given(f"model.{name}", group).items()}
    idle = [f"{key} {given[key]} ({reason})" for key, reason in reasons.items() if key in given]
    return f"Without effect: {'; '.join(idle)}" if idle else ""


def _given(prefix: str, settings: _Settings) -> dict[str, object]:
    """The values that are not the default's, nor 0, which switches a feature off, by their YAML key."""
    values = {field.name: (getattr(settings, field.name), field.default) for field in fields(settings)}
    return {f"{prefix}.{name}": value for name, (value, default) in values.items() if value not in (default, 0)}
