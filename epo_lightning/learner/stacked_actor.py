"""A population of actors of one shape that share no weight: every layer is one batched product.

Shape legend: K agents, k of them, B rows of each, N rows, O observation, A action, D parameters of an agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from epo_lightning.learner.activations import ACTIVATIONS, Activation
from epo_lightning.learner.deterministic import PQLNetworkSettings
from epo_lightning.learner.images import ImageSettings
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.observations import Groups, pixels, seen_by_actors, seen_groups
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.learner.stacked import stacked_mlp
from epo_lightning.learner.stacked_images import stacked_encoder
from epo_lightning.learner.stacked_standalone import StackedMLP
from epo_lightning.learner.standalone import Standalone


@dataclass(frozen=True)
class CEMNetworkSettings(ImageSettings):
    """Size and shape of the actors and of the two critics that they share.

    Args:
        actor: Widths of an actor's layers.
        critic: Widths of each critic's layers.
        actor_activation: Non-linearity of the actors.
        critic_activation: Of the critics.
        obs_clip: Normalised observations are clipped to +-obs_clip.
    """

    actor: tuple[int, ...] = (400, 300)
    critic: tuple[int, ...] = (400, 300)
    actor_activation: Activation = "tanh"
    critic_activation: Activation = "leaky_relu"
    obs_clip: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.of_critics  # which refuses what makes no network

    @property
    def of_critics(self) -> PQLNetworkSettings:
        """The critics' part, as `TwinCritic` takes it: they tell the mean of the return."""
        return PQLNetworkSettings(
            self.actor,
            self.critic,
            self.critic_activation,
            obs_clip=self.obs_clip,
            image_channels=self.image_channels,
            image_features=self.image_features,
        )


class StackedActor(NormalizingPolicy):
    """One action per state and agent, squashed by tanh.

    Args:
        num_agents: K.
        obs_dim: O.
        act_dim: A.
        settings: See `CEMNetworkSettings`.
        groups: Of the observation; the actors do not see the privileged ones.
    """

    def __init__(
        self, num_agents: int, obs_dim: int, act_dim: int, settings: CEMNetworkSettings, groups: Groups = ()
    ) -> None:
        super().__init__()
        self.num_agents, self.sees = num_agents, seen_by_actors(groups, obs_dim)
        self.obs_moments = RunningMoments((obs_dim,), clip=settings.obs_clip, epsilon=1e-4, pixels=pixels(groups))
        activation = ACTIVATIONS[settings.actor_activation]
        encoder, inputs = stacked_encoder(num_agents, seen_groups(groups), self.sees, settings, activation)
        mlp = stacked_mlp(num_agents, inputs, settings.actor, act_dim, activation)
        self.mlp = mlp if encoder is None else nn.Sequential(encoder, *mlp)

    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        """(0, N, 0): there is nothing to remember."""
        return torch.zeros(0, rows, 0, device=device)

    def forward(self, obs: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        """(k, B, A) the actions for normalised observations (k, B, O): of all K agents, or of those with `weights`."""
        seen = self.seen(obs)
        output = self.mlp(seen) if weights is None else functional_call(self.mlp, dict(weights), (seen,))
        actions: Tensor = output.float().tanh()
        return actions

    def weights(self, agents: Tensor | slice) -> dict[str, Tensor]:
        """(k, ...) of each parameter: copies of those of `agents`."""
        return {name: parameter.detach()[agents].clone() for name, parameter in self.mlp.named_parameters()}

    @torch.no_grad()
    def put(self, agents: slice, weights: Mapping[str, Tensor]) -> None:
        """Make `weights` (k, ...) those of `agents`."""
        for name, parameter in self.mlp.named_parameters():
            parameter[agents] = weights[name]

    def flat(self) -> Tensor:
        """(K, D) the parameters of every agent in one row: a copy."""
        return torch.cat([parameter.detach().flatten(1) for parameter in self.mlp.parameters()], dim=1)

    @torch.no_grad()
    def put_flat(self, agents: slice, flat: Tensor) -> None:
        """Make the rows of `flat` (k, D) the parameters of `agents`."""
        parameters = [*self.mlp.parameters()]
        parts = flat.split([parameter[0].numel() for parameter in parameters], dim=1)
        for parameter, part in zip(parameters, parts, strict=True):
            parameter[agents] = part.view(-1, *parameter.shape[1:])

    @torch.no_grad()
    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`; there is nothing to draw, and the state stays as it is. Waits for the device."""
        agents, place, counts = agent_ids.unique(return_inverse=True, return_counts=True)
        order = place.argsort(stable=True)
        row = place[order]
        column = torch.arange(len(obs), device=obs.device) - (counts.cumsum(0) - counts)[row]
        blocks = obs.new_zeros(len(agents), int(counts.max()), self.sees)
        blocks[row, column] = self.look(obs[order])
        said = self(blocks, self.weights(agents))[row, column]
        actions = torch.empty_like(said)
        actions[order] = said
        return actions, state

    def standalone(self, agent: int, *, discrete: bool, everybody: bool = False) -> Standalone:
        """One actor, or all of them; see `Policy.standalone`."""
        moments = self.obs_moments.normalizer().first(self.sees)
        return StackedMLP(moments, agent, self.num_agents if everybody else None, self.mlp)
