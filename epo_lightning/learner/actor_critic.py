"""What every network that acts in rollouts, and tells what its states are worth, has in common.

Shape legend: N rows (environments or samples), T steps, K agents, O observation, A action, H LSTM units,
S recurrent state tensors (2 per LSTM: hidden and cell; 0 without).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from epo_lightning.algorithm.distributions import ActionDistribution
from epo_lightning.learner.activations import Activation
from epo_lightning.learner.images import ImageSettings
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.limits import require_range


@dataclass(frozen=True)
class ActorCriticSettings(ImageSettings):
    """Size and shape of actor and critic.

    Args:
        hidden: Widths of the MLP's layers.
        width: Multiplies `hidden` and `lstm_units` (the paper's x4 network: 4).
        lstm_units: H of an LSTM -> LayerNorm in front of the MLP (the paper's network); null for none.
        separate_critic: A trunk of its own for the critic; otherwise actor and critic share one.
        activation: Non-linearity of the MLP.
        log_std_init: Initial log standard deviation of the actions.
        log_std_min: The learned log standard deviations do not fall below this.
        log_std_max: The learned log standard deviations do not rise above this.
        obs_clip: Normalised observations are clipped to +-obs_clip.
    """

    hidden: tuple[int, ...] = (512, 256, 128)
    width: int = 1
    lstm_units: int | None = None
    separate_critic: bool = False
    activation: Activation = "elu"
    log_std_init: float = 0.0
    log_std_min: float = -5.0
    log_std_max: float = 2.0
    obs_clip: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("model.network.width", self.width, 1)
        for units in self.hidden:
            require_range("model.network.hidden", units, 1)
        if self.lstm_units is not None:
            require_range("model.network.lstm_units", self.lstm_units, 1)
        require_range("model.network.obs_clip", self.obs_clip, 0, open_low=True)
        require_range("model.network.log_std_max", self.log_std_max, self.log_std_min)
        require_range("model.network.log_std_init", self.log_std_init, self.log_std_min, self.log_std_max)

    @property
    def widths(self) -> list[int]:
        """Of the MLP's layers."""
        return [self.width * layer for layer in self.hidden]

    @property
    def state_shape(self) -> tuple[int, int]:
        """(S, H)."""
        units = self.width * (self.lstm_units or 0)
        return (2 * (1 + self.separate_critic), units) if units else (0, 0)


class Expression(NamedTuple):
    """What makes agents differ, looked up for a set of rows.

    Attributes:
        actor: (N, F) the traits of their genes in the actor's trunk (see `trunks`).
        critic: The same in the critic's own trunk; None where it has none.
        log_std: (N, A).
    """

    actor: Tensor
    critic: Tensor | None
    log_std: Tensor

    def at(self, rows: Tensor) -> "Expression":
        """Those of some of the rows (M,)."""
        critic = None if self.critic is None else self.critic[rows]
        return Expression(self.actor[rows], critic, self.log_std[rows])


class PolicyOutput(NamedTuple):
    """What the network says of a set of rows.

    Attributes:
        actions: Which actions, float32.
        value: (...,) float32 normalised value.
        state: (S, N, H) recurrent state after the last step; (S, T, N, H) after every step, where that was asked for.
    """

    actions: ActionDistribution
    value: Tensor
    state: Tensor


class ActorCritic(NormalizingPolicy):
    """Actor and critic of a population, as rollouts and their targets use them.

    Attributes:
        discrete: The action is one of A choices.
        state_shape: (S, H).
        value_moments: Of the critic's targets; the network tells normalised values.
        actor: The trunk of the actor.
        log_std: (K, A) log standard deviations of the actions, of every agent.
    """

    discrete: bool
    state_shape: tuple[int, int]
    value_moments: RunningMoments
    actor: nn.Module
    settings: ActorCriticSettings
    log_std: nn.Parameter

    @property
    def parameters_per_row(self) -> int:
        """Parameters that have a part in what is said of one row."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def recurrent(self) -> bool:
        """Whether there is an LSTM, hence a state to carry."""
        return self.state_shape[0] > 0

    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        """(S, N, H) zeros: the state at an episode's start."""
        return torch.zeros(self.state_shape[0], rows, self.state_shape[1], device=device)

    @abstractmethod
    def express(self, agent_ids: Tensor) -> Expression:
        """What makes the agents named by `agent_ids` (N,) differ, in the precision of the context (autocast)."""

    @abstractmethod
    def forward(self, obs: Tensor, rows: Expression, state: Tensor, resets: Tensor | None = None) -> PolicyOutput:
        """One step, or a sequence.

        Args:
            obs: (N, O) normalised observations; (T, N, O) for a sequence.
            rows: What makes the agents of the N rows differ (see `express`).
            state: (S, N, H) before the first step.
            resets: (T, N) bool: an episode starts at this step, its state is zeroed first.
        """

    @torch.no_grad()
    def clamp_log_std(self) -> None:
        """Project the log standard deviations back into their range; call it after every optimizer step."""
        self.log_std.clamp_(self.settings.log_std_min, self.settings.log_std_max)

    def update_value_moments(self, targets: Tensor) -> None:
        """Take in critic targets, and rescale the value head so that V(s) does not jump (PopArt, arXiv 1602.07714)."""
        before = self.value_scale()
        self.value_moments.update(targets)
        self.keep_values(*before)

    def value_scale(self) -> tuple[Tensor, Tensor]:
        """Standard deviation and mean of the values, as `keep_values` needs them."""
        return self.value_moments.std(), self.value_moments.mean.float()

    @abstractmethod
    def keep_values(self, old_std: Tensor, old_mean: Tensor) -> None:
        """Rescale the value head so that V(s) does not jump when the value moments have changed from these."""
