"""An actor without noise of its own, and the sizes of what learns with it.

Shape legend: N rows (environments or samples), O observation, A action.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from epo_lightning.learner.activations import Activation
from epo_lightning.learner.images import ImageSettings
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.observations import Groups, pixels, seen_by_actors
from epo_lightning.learner.policy import NormalizingPolicy
from epo_lightning.learner.q_networks import build_actor, require_networks
from epo_lightning.learner.standalone import Standalone, StandaloneMLP


@dataclass(frozen=True)
class PQLNetworkSettings(ImageSettings):
    """Size and shape of actor and critics.

    Args:
        actor: Widths of the actor's layers.
        critic: Widths of each critic's layers.
        activation: Non-linearity of both.
        layer_norm: Normalise each layer before its non-linearity.
        atoms: M, the critics tell a distribution of the return over so many atoms (PQL-D has 51); null for its mean.
        value_min: The first atom, in units of the scaled and discounted return: what is worse counts as this.
        value_max: The last atom.
        obs_clip: Normalised observations are clipped to +-obs_clip.
    """

    actor: tuple[int, ...] = (512, 256, 128)
    critic: tuple[int, ...] = (512, 256, 128)
    activation: Activation = "elu"
    layer_norm: bool = False
    atoms: int | None = None
    value_min: float = -10.0
    value_max: float = 10.0
    obs_clip: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_networks(self)


class DeterministicActor(NormalizingPolicy):
    """One action per state, squashed by tanh; one agent.

    Args:
        obs_dim: O.
        act_dim: A.
        settings: See `PQLNetworkSettings`.
        groups: Of the observation; the actor does not see the privileged ones.
    """

    num_agents = 1

    def __init__(self, obs_dim: int, act_dim: int, settings: PQLNetworkSettings, groups: Groups = ()) -> None:
        super().__init__()
        self.act_dim, self.sees = act_dim, seen_by_actors(groups, obs_dim)
        self.obs_moments = RunningMoments((obs_dim,), clip=settings.obs_clip, epsilon=1e-4, pixels=pixels(groups))
        self.mlp = build_actor(self.sees, act_dim, settings, groups)

    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        """(0, N, 0): there is nothing to remember."""
        return torch.zeros(0, rows, 0, device=device)

    def forward(self, obs: Tensor) -> Tensor:
        """(N, A) the actions for normalised observations (N, O)."""
        actions: Tensor = self.mlp(self.seen(obs)).float().tanh()
        return actions

    @torch.no_grad()
    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`; there is nothing to draw, and the state stays as it is."""
        return self(self.look(obs)), state

    def standalone(self, agent: int, *, discrete: bool, everybody: bool = False) -> Standalone:
        """See `Policy.standalone`."""
        return StandaloneMLP(self.obs_moments.normalizer().first(self.sees), self.mlp, self.act_dim)
