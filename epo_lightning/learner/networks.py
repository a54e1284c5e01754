"""The network that all agents share, conditioned on each agent's gene.

Shape legend: N rows (environments or samples), T steps, K agents, O observation, P what actors see of it, A action,
Z gene, H LSTM units, S recurrent state tensors (2 per LSTM: hidden and cell; 0 without).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from epo_lightning.algorithm.distributions import Categorical, Gaussian
from epo_lightning.learner.activations import ACTIVATIONS
from epo_lightning.learner.actor_critic import ActorCritic, ActorCriticSettings, Expression, PolicyOutput
from epo_lightning.learner.images import image_encoder
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.observations import Groups, pixels, require_own_critic, seen_by_actors, seen_groups
from epo_lightning.learner.products import linear
from epo_lightning.learner.standalone import GENE, Standalone, Who, lstm_memory
from epo_lightning.learner.trunks import LSTMTrunk, MLPTrunk, Trunk
from epo_lightning.limits import Mistake, require_range


@dataclass(frozen=True)
class NetworkSettings(ActorCriticSettings):
    """Size and shape of the shared network.

    Args:
        gene_dim: Z, entries of an agent's gene; 0 is allowed for one agent only.
    """

    gene_dim: int = 32

    def __post_init__(self) -> None:
        require_range("model.network.gene_dim", self.gene_dim, 0)
        super().__post_init__()


class LatentActorCritic(ActorCritic):
    """Actor and critic of a whole population: pi_theta(a | s, phi_k) and V_psi(s, phi_k) (EPO section 4).

    Args:
        obs_dim: O.
        act_dim: A.
        num_agents: K.
        settings: See `NetworkSettings`.
        discrete: The action is one of A choices instead of A numbers; there is no log-std then.
        groups: Of the observation; only a critic of its own sees the privileged ones.

    Raises:
        Mistake: When a group is for a critic of its own, and there is none.
    """

    actor: Trunk

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        num_agents: int,
        settings: NetworkSettings,
        discrete: bool = False,
        groups: Groups = (),
    ) -> None:
        super().__init__()
        require_own_critic(groups, settings.separate_critic)
        if num_agents > 1 and settings.gene_dim < 1:
            raise Mistake(f"model.network.gene_dim must be at least 1 with {num_agents} agents, got 0")
        self.settings, self.discrete, self.num_agents = settings, discrete, num_agents
        self.obs_moments = RunningMoments((obs_dim,), clip=settings.obs_clip, pixels=pixels(groups))
        self.value_moments = RunningMoments()
        self.genes = nn.Parameter(torch.randn(num_agents, settings.gene_dim))
        log_std = torch.full((num_agents, 0 if discrete else act_dim), settings.log_std_init)
        self.log_std = nn.Parameter(log_std, requires_grad=not discrete)
        self.sees = seen_by_actors(groups, obs_dim)
        activation = ACTIVATIONS[settings.activation]
        self.actor_encoder, inputs = image_encoder(seen_groups(groups), self.sees, settings, activation)
        self.actor = _trunk(inputs, settings)
        self.critic, self.critic_encoder = None, None
        if settings.separate_critic:
            self.critic_encoder, inputs = image_encoder(groups, obs_dim, settings, activation)
            self.critic = _trunk(inputs, settings)
        self.action_head = nn.Linear(self.actor.outputs, act_dim)
        self.value_head = nn.Linear((self.critic or self.actor).outputs, 1)
        self.state_shape = settings.state_shape

    def express(self, agent_ids: Tensor) -> Expression:
        """What makes the agents named by `agent_ids` (N,) differ, in the precision of the context (autocast)."""
        critic = None if self.critic is None else self._look_up(self.critic.traits(self.genes), agent_ids)
        return Expression(
            self._look_up(self.actor.traits(self.genes), agent_ids), critic, self._look_up(self.log_std, agent_ids)
        )

    def _look_up(self, table: Tensor, agent_ids: Tensor) -> Tensor:
        """(N, ...) rows of a table (K, ...); a single agent's are the same, and the gradient of that is a sum."""
        return table.expand(len(agent_ids), -1) if self.num_agents == 1 else functional.embedding(agent_ids, table)

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
            rows: What makes the agents of the N rows differ (see `express`).
            state: (S, N, H) before the first step.
            resets: (T, N) bool: an episode starts at this step, its state is zeroed first.
            every_state: Of a sequence: give the state after every step, before the next one's reset.
        """
        features, new_state = self.actor(self._encoded(self.seen(obs)), rows.actor, state[:2], resets, every_state)
        value_features = features
        if self.critic is not None:
            assert rows.critic is not None
            known = obs if self.critic_encoder is None else self.critic_encoder(obs)
            value_features, critic_state = self.critic(known, rows.critic, state[2:], resets, every_state)
            new_state = torch.cat([new_state, critic_state])
        value = self.value_head(value_features).squeeze(-1).float()
        return PolicyOutput(self._actions(features, rows), value, new_state)

    def _encoded(self, seen: Tensor) -> Tensor:
        """What enters the actor's trunk of what it sees (..., P)."""
        if self.actor_encoder is None:
            return seen
        encoded: Tensor = self.actor_encoder(seen)
        return encoded

    @property
    def parameters_per_row(self) -> int:
        """Also how often the weights of convolutions are used."""
        encoders = (self.actor_encoder, self.critic_encoder)
        return super().parameters_per_row + sum(encoder.reuses for encoder in encoders if encoder is not None)

    def _actions(self, features: Tensor, rows: Expression) -> Categorical | Gaussian:
        """The distribution of the actions for features of the actor's trunk."""
        head = linear(features, self.action_head.weight, self.action_head.bias).float()
        return Categorical(head) if self.discrete else Gaussian(head, rows.log_std)

    @torch.no_grad()
    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`; where only the critic sees all, its part of the state stays as it is."""
        rows, seen = self.express(agent_ids), self.look(obs)
        if self.sees == self.obs_moments.mean.shape[-1]:
            output = self(seen, rows, state)
            policy, new_state = output.actions, output.state
        else:
            features, actor_state = self.actor(self._encoded(seen), rows.actor, state[:2], None)
            policy, new_state = self._actions(features, rows), torch.cat([actor_state, state[2:]])
        return policy.mode() if generator is None else policy.draw(generator), new_state

    def standalone(self, agent: int, *, discrete: bool, everybody: bool = False) -> Standalone:
        """The actor, with the gene as an input: everybody is in it; see `Policy.standalone`."""
        return StandaloneActor(self, agent)

    @torch.no_grad()
    def keep_values(self, old_std: Tensor, old_mean: Tensor) -> None:
        """See `ActorCritic.keep_values`."""
        std, mean = self.value_scale()
        self.value_head.weight.mul_(old_std / std)
        self.value_head.bias.mul_(old_std).add_(old_mean - mean).div_(std)


class StandaloneActor(Standalone):
    """The actor of a population that shares its weights; the input `gene` (1, Z) or (N, Z) says who acts.

    Args:
        network: Of the population.
        agent: Whose gene is the default.
    """

    def __init__(self, network: LatentActorCritic, agent: int) -> None:
        genes = network.genes.detach().clone()
        super().__init__(
            network.obs_moments.normalizer().first(network.sees),
            discrete=network.discrete,
            who=Who(GENE, genes, agent) if genes.shape[1] else None,
            memory=lstm_memory(network.state_shape[1]),
        )
        self.encoder, self.actor, self.head = network.actor_encoder, network.actor, network.action_head

    def decide(self, obs: Tensor, who: Tensor | None, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Standalone.decide`."""
        traits = self.actor.traits(obs.new_zeros(1, 0) if who is None else who).expand(obs.shape[0], -1)
        state = torch.stack(memory) if memory else obs.new_zeros(0)
        seen = obs if self.encoder is None else self.encoder(obs)
        features, state = self.actor(seen, traits, state, None)
        return self.head(features).float(), (state[0], state[1]) if memory else ()


def _trunk(obs_dim: int, settings: NetworkSettings) -> Trunk:
    """The trunk that `settings` ask for."""
    hidden = settings.widths
    activation = ACTIVATIONS[settings.activation]
    if settings.lstm_units is None:
        return MLPTrunk(obs_dim, settings.gene_dim, hidden, activation)
    return LSTMTrunk(obs_dim, settings.gene_dim, settings.width * settings.lstm_units, hidden, activation)
