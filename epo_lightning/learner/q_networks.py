"""The networks of soft actor-critic: an actor with squashed actions, and two critics of observation and action.

Other algorithms with two critics share the latter.

Shape legend: N rows (environments or samples), O observation, A action, M atoms.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from epo_lightning.algorithm.q_values import CategoricalValues, QValues, ScalarValues
from epo_lightning.algorithm.squashed import SquashedGaussian
from epo_lightning.learner.activations import ACTIVATIONS, Activation
from epo_lightning.learner.images import EncoderSettings, ImageSettings, image_encoder
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.observations import Groups, pixels, seen_by_actors, seen_groups
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.learner.standalone import Standalone, StandaloneMLP
from epo_lightning.limits import Mistake, require_range


class QNetworkSettings(Protocol):
    """What the settings of every algorithm with actor and critics tell of them; see `SACNetworkSettings`."""

    @property
    def actor(self) -> tuple[int, ...]:
        """Widths."""

    @property
    def critic(self) -> tuple[int, ...]:
        """Widths."""

    @property
    def activation(self) -> Activation:
        """Non-linearity."""

    @property
    def layer_norm(self) -> bool:
        """Before it."""

    @property
    def atoms(self) -> int | None:
        """M."""

    @property
    def value_min(self) -> float:
        """The first atom."""

    @property
    def value_max(self) -> float:
        """The last one."""

    @property
    def obs_clip(self) -> float:
        """Of normalised observations."""


class CriticSettings(QNetworkSettings, EncoderSettings, Protocol):
    """The same of algorithms whose networks look at images, too."""


@dataclass(frozen=True)
class SACNetworkSettings(ImageSettings):
    """Size and shape of actor and critics.

    Args:
        actor: Widths of the actor's layers.
        critic: Widths of each critic's layers.
        activation: Non-linearity of both.
        layer_norm: Normalise each layer before its non-linearity.
        log_std_min: The log standard deviations of the actions, before they are squashed, do not fall below this.
        log_std_max: They do not rise above this. A new actor begins in the middle.
        atoms: M, the critics tell a distribution of the return over so many atoms; null for its mean alone.
        value_min: The first atom, in units of the discounted return: what is worse counts as this.
        value_max: The last atom.
        obs_clip: Normalised observations are clipped to +-obs_clip.
    """

    actor: tuple[int, ...] = (512, 256, 128)
    critic: tuple[int, ...] = (768, 384, 192)
    activation: Activation = "silu"
    layer_norm: bool = True
    log_std_min: float = -5.0
    log_std_max: float = 0.0
    atoms: int | None = 101
    value_min: float = -20.0
    value_max: float = 20.0
    obs_clip: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_networks(self)
        require_range("model.network.log_std_max", self.log_std_max, self.log_std_min)


def require_networks(settings: QNetworkSettings) -> None:
    """Refuse sizes and ranges that make no network.

    Raises:
        Mistake: Naming the key.
    """
    key = "model.network"
    for name, widths in (("actor", settings.actor), ("critic", settings.critic)):
        for units in widths:
            require_range(f"{key}.{name}", units, 1)
    if settings.atoms is not None:
        require_range(f"{key}.atoms", settings.atoms, 2)
        require_range(f"{key}.value_max", settings.value_max, settings.value_min, open_low=True)
    require_range(f"{key}.obs_clip", settings.obs_clip, 0, open_low=True)


def build_mlp(inputs: int, widths: tuple[int, ...], outputs: int, settings: QNetworkSettings) -> nn.Sequential:
    """Linear [-> LayerNorm] -> non-linearity for each of `widths`, and a linear head, the last module."""
    layers: list[nn.Module] = []
    for width, next_width in pairwise((inputs, *widths)):
        layers.append(nn.Linear(width, next_width))
        if settings.layer_norm:
            layers.append(nn.LayerNorm(next_width))
        layers.append(ACTIVATIONS[settings.activation]())
    return nn.Sequential(*layers, nn.Linear(widths[-1] if widths else inputs, outputs))


def build_actor(obs_dim: int, outputs: int, settings: CriticSettings, groups: Groups) -> nn.Sequential:
    """The layers of an actor, from normalised observations of what it sees to a linear head, the last module.

    Args:
        obs_dim: What it sees.
        outputs: Of the head.
        settings: Size and shape.
        groups: Of the whole observation.
    """
    encoder, inputs = image_encoder(seen_groups(groups), obs_dim, settings, ACTIVATIONS[settings.activation])
    mlp = build_mlp(inputs, settings.actor, outputs, settings)
    return mlp if encoder is None else nn.Sequential(encoder, *mlp)


class SquashedActor(NormalizingPolicy):
    """pi(a | s), one agent. It begins with the mode 0 in every state.

    Args:
        obs_dim: O.
        act_dim: A.
        settings: See `SACNetworkSettings`.
        groups: Of the observation; the actor does not see the privileged ones.
    """

    num_agents = 1

    def __init__(self, obs_dim: int, act_dim: int, settings: SACNetworkSettings, groups: Groups = ()) -> None:
        super().__init__()
        self.settings, self.act_dim, self.sees = settings, act_dim, seen_by_actors(groups, obs_dim)
        self.obs_moments = RunningMoments((obs_dim,), clip=settings.obs_clip, pixels=pixels(groups))
        self.mlp = build_actor(self.sees, 2 * act_dim, settings, groups)
        head = self.mlp[-1]
        assert isinstance(head, nn.Linear)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)

    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        """(0, N, 0): there is nothing to remember."""
        return torch.zeros(0, rows, 0, device=device)

    def forward(self, obs: Tensor) -> SquashedGaussian:
        """The distribution of the actions for normalised observations (N, O)."""
        mean, raw = self.mlp(self.seen(obs)).float().chunk(2, dim=-1)
        low, high = self.settings.log_std_min, self.settings.log_std_max
        return SquashedGaussian(mean, low + 0.5 * (high - low) * (1.0 + raw.tanh()))

    @torch.no_grad()
    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`; the state stays as it is."""
        actions = self(self.look(obs))
        return actions.mode() if generator is None else actions.sample(generator).actions, state

    def standalone(self, agent: int, *, discrete: bool, everybody: bool = False) -> Standalone:
        """The mode; see `Policy.standalone`."""
        return StandaloneMLP(self.obs_moments.normalizer().first(self.sees), self.mlp, self.act_dim)


class TwinCritic(nn.Module):
    """Two critics Q(s, a) that share nothing but what looks at images.

    Args:
        obs_dim: O.
        act_dim: A.
        settings: See `QNetworkSettings`.
        groups: Of the observation: both look at images through one encoder.
    """

    atoms: Tensor

    def __init__(self, obs_dim: int, act_dim: int, settings: CriticSettings, groups: Groups = ()) -> None:
        super().__init__()
        self.encoder, inputs = image_encoder(groups, obs_dim, settings, ACTIVATIONS[settings.activation])
        outputs = 1 if settings.atoms is None else settings.atoms
        self.categorical = settings.atoms is not None
        self.register_buffer("atoms", torch.linspace(settings.value_min, settings.value_max, outputs), persistent=False)
        # Stacked weights and one batched product for both take as long on a CPU, or a fifth longer at the default sizes
        self.critics = nn.ModuleList(build_mlp(inputs + act_dim, settings.critic, outputs, settings) for _ in range(2))

    def forward(self, obs: Tensor, actions: Tensor) -> QValues:
        """What both say of actions (N, A) in normalised observations (N, O): (2, N) values or distributions."""
        known = obs if self.encoder is None else self.encoder(obs)
        x = torch.cat([known, actions.to(known.dtype)], dim=-1)
        outputs = torch.stack([critic(x) for critic in self.critics]).float()
        return CategoricalValues(outputs, self.atoms) if self.categorical else ScalarValues(outputs.squeeze(-1))


def require_continuous(name: str, discrete: bool) -> None:
    """Refuse a task of choices: an actor beside critics of observation and action acts by numbers.

    Raises:
        Mistake: When the actions are no numbers.
    """
    if discrete:
        raise Mistake(
            f"data.env: {name} has discrete actions, and this algorithm acts by numbers: choose by --algorithm another"
            " one, such as epo"
        )
