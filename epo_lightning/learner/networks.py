"""The network that all agents share, conditioned on each agent's gene.

Shape legend: N rows (environments or samples), T steps, K agents, O observation, A action, Z gene, H LSTM units,
S recurrent state tensors (2 per LSTM: hidden and cell; 0 without).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from epo_lightning.algorithm.distributions import ActionDistribution, Categorical, Gaussian
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake, require_range

Activation = Literal["elu", "relu", "tanh", "silu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


@dataclass(frozen=True)
class NetworkSettings:
    """Size and shape of the shared network.

    Args:
        gene_dim: Z, entries of an agent's gene; 0 is allowed for one agent only.
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

    gene_dim: int = 32
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
        require_range("model.network.gene_dim", self.gene_dim, 0)
        require_range("model.network.width", self.width, 1)
        for units in self.hidden:
            require_range("model.network.hidden", units, 1)
        if self.lstm_units is not None:
            require_range("model.network.lstm_units", self.lstm_units, 1)
        require_range("model.network.obs_clip", self.obs_clip, 0, open_low=True)
        require_range("model.network.log_std_max", self.log_std_max, self.log_std_min)
        require_range("model.network.log_std_init", self.log_std_init, self.log_std_min, self.log_std_max)


class Expression(NamedTuple):
    """An agent's individual parameters, looked up for a set of rows: `genes` (N, Z) and `log_std` (N, A)."""

    genes: Tensor
    log_std: Tensor


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


class Trunk(nn.Module):
    """[LSTM -> LayerNorm ->] MLP.

    Args:
        inputs: Width of the input.
        settings: See `NetworkSettings`.
    """

    def __init__(self, inputs: int, settings: NetworkSettings) -> None:
        super().__init__()
        units = settings.width * (settings.lstm_units or 0)
        self.cell = nn.LSTMCell(inputs, units) if units else None
        self.norm = nn.LayerNorm(units) if units else None
        widths = [units or inputs, *(settings.width * layer for layer in settings.hidden)]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), _ACTIVATIONS[settings.activation]()]
        self.mlp = nn.Sequential(*layers)
        self.outputs = widths[-1]

    def forward(
        self, x: Tensor, state: Tensor, resets: Tensor | None, every_state: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Features and new state.

        Args:
            x: (N, inputs), or (T, N, inputs) when there is an LSTM.
            state: (2, N, H) before the first step; ignored without an LSTM.
            resets: (T, N) bool, zero the state before this step; None for no reset.
            every_state: Of a sequence: the state after every step, (2, T, N, H), instead of the last one.
        """
        if self.cell is None or self.norm is None:
            return self.mlp(x), state
        steps = x if x.dim() == 3 else x[None]
        hidden, cell = state[0], state[1]
        outputs, cells = [], []
        for t, step in enumerate(steps):
            if resets is not None:
                hidden, cell = (part.masked_fill(resets[t, :, None], 0.0) for part in (hidden, cell))
            hidden, cell = self.cell(step, (hidden, cell))
            outputs.append(hidden)
            if every_state:
                cells.append(cell)
        features = torch.stack(outputs) if x.dim() == 3 else hidden
        new_state = torch.stack([features, torch.stack(cells)] if every_state else [hidden, cell])
        return self.mlp(self.norm(features)), new_state.to(state.dtype)


class LatentActorCritic(Policy):
    """Actor and critic of a whole population: pi_theta(a | s, phi_k) and V_psi(s, phi_k) (EPO section 4).

    Args:
        obs_dim: O.
        act_dim: A.
        num_agents: K.
        settings: See `NetworkSettings`.
        discrete: The action is one of A choices instead of A numbers; there is no log-std then.
    """

    def __init__(
        self, obs_dim: int, act_dim: int, num_agents: int, settings: NetworkSettings, discrete: bool = False
    ) -> None:
        super().__init__()
        if num_agents > 1 and settings.gene_dim < 1:
            raise Mistake(f"model.network.gene_dim must be at least 1 with {num_agents} agents, got 0")
        self.settings, self.discrete, self.num_agents = settings, discrete, num_agents
        self.obs_moments = RunningMoments((obs_dim,), clip=settings.obs_clip)
        self.value_moments = RunningMoments()
        self.genes = nn.Parameter(torch.randn(num_agents, settings.gene_dim))
        log_std = torch.full((num_agents, 0 if discrete else act_dim), settings.log_std_init)
        self.log_std = nn.Parameter(log_std, requires_grad=not discrete)
        inputs = obs_dim + settings.gene_dim
        self.actor = Trunk(inputs, settings)
        self.critic = Trunk(inputs, settings) if settings.separate_critic else None
        self.action_head = nn.Linear(self.actor.outputs, act_dim)
        self.value_head = nn.Linear(self.actor.outputs, 1)
        units = settings.width * (settings.lstm_units or 0)
        self.state_shape = (2 * (1 + settings.separate_critic), units) if units else (0, 0)

    @property
    def recurrent(self) -> bool:
        """Whether there is an LSTM, hence a state to carry."""
        return self.state_shape[0] > 0

    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        """(S, N, H) zeros: the state at an episode's start."""
        return torch.zeros(self.state_shape[0], rows, self.state_shape[1], device=device)

    def express(self, agent_ids: Tensor) -> Expression:
        """Genes and log-std of the agents named by `agent_ids` (N,)."""
        return Expression(functional.embedding(agent_ids, self.genes), functional.embedding(agent_ids, self.log_std))

    def forward(
        self,
        obs: Tensor,
        rows: Expression,
        state: Tensor,
        resets: Tensor | None = None,
        every_state: bool = False,
    ) -> PolicyOutput:
        """One step, or a sequence.

        Args:
            obs: (N, O) normalised observations; (T, N, O) for a sequence.
            rows: Genes and log-std of the N rows.
            state: (S, N, H) before the first step.
            resets: (T, N) bool: an episode starts at this step, its state is zeroed first.
            every_state: Of a sequence: give the state after every step, before the next one's reset.
        """
        genes = rows.genes if obs.dim() == 2 else rows.genes.expand(len(obs), -1, -1)
        x = torch.cat([obs, genes], dim=-1)
        features, new_state = self.actor(x, state[:2], resets, every_state)
        value_features = features
        if self.critic is not None:
            value_features, critic_state = self.critic(x, state[2:], resets, every_state)
            new_state = torch.cat([new_state, critic_state])
        head = self.action_head(features).float()
        value = self.value_head(value_features).squeeze(-1).float()
        actions = Categorical(head) if self.discrete else Gaussian(head, rows.log_std)
        return PolicyOutput(actions, value, new_state)

    @torch.no_grad()
    def act(self, obs: Tensor, agent_ids: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest actions, as the environment takes them, for raw observations (N, O), and the new state."""
        output = self(self.obs_moments.normalize(obs), self.express(agent_ids), state)
        return output.actions.mode(), output.state

    @torch.no_grad()
    def clamp_log_std(self) -> None:
        """Project the log standard deviations back into their range; call it after every optimizer step."""
        self.log_std.clamp_(self.settings.log_std_min, self.settings.log_std_max)

    @torch.no_grad()
    def update_value_moments(self, targets: Tensor) -> None:
        """Take in critic targets, and rescale the value head so that V(s) does not jump (PopArt, arXiv 1602.07714)."""
        old_std, old_mean = self.value_moments.std(), self.value_moments.mean.float()
        self.value_moments.update(targets)
        std, mean = self.value_moments.std(), self.value_moments.mean.float()
        self.value_head.weight.mul_(old_std / std)
        self.value_head.bias.mul_(old_std).add_(old_mean - mean).div_(std)
