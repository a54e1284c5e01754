"""Critics of one shape with weights of their own, all at once.

Shape legend: k critics, B rows of each, O observation, A action.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from epo_lightning.learner.activations import ACTIVATIONS
from epo_lightning.learner.observations import Groups
from epo_lightning.learner.q_networks import TwinCritic
from epo_lightning.learner.stacked import stacked_mlp
from epo_lightning.learner.stacked_actor import CEMNetworkSettings
from epo_lightning.learner.stacked_images import stacked_encoder


class StackedCritic(nn.Module):
    """Critics Q_k(s, a) of the shape of the first of a `TwinCritic`; it has no weights, they are handed to it.

    Args:
        critics: k, how many.
        obs_dim: O.
        act_dim: A.
        settings: See `CEMNetworkSettings`.
        groups: Of the observation.
    """

    def __init__(
        self, critics: int, obs_dim: int, act_dim: int, settings: CEMNetworkSettings, groups: Groups = ()
    ) -> None:
        super().__init__()
        activation = ACTIVATIONS[settings.critic_activation]
        with torch.device("meta"):  # its shape alone
            self.encoder, inputs = stacked_encoder(critics, groups, obs_dim, settings, activation)
            self.mlp = stacked_mlp(critics, inputs + act_dim, settings.critic, 1, activation)

    @staticmethod
    def weights_of(critic: TwinCritic) -> list[Tensor]:
        """The weights of one critic, in the order in which `forward` takes those of all."""
        encoder = [] if critic.encoder is None else critic.encoder.parameters()
        return [weight.detach().clone() for weight in (*encoder, *critic.critics[0].parameters())]

    def values(self, weights: Sequence[Tensor], obs: Tensor, actions: Tensor) -> Tensor:
        """(k, B) float32 of normalised observations (k, B, O) and actions (k, B, A), by `weights` (k, ...) each."""
        named = dict(zip(dict(self.named_parameters()), weights, strict=True))
        values: Tensor = functional_call(self, named, (obs, actions))
        return values

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """See `values`."""
        known = obs if self.encoder is None else self.encoder(obs)
        values: Tensor = self.mlp(torch.cat([known, actions.to(known.dtype)], dim=-1))
        return values.float().squeeze(-1)
