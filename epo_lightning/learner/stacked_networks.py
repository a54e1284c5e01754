"""K actors with K critics that share nothing: the networks of a population-based training, as batched weights.

Shape legend: K agents, A of them that are asked, N = A B rows, B rows of each agent, T steps, O observation, A action
entries in distributions, S recurrent state tensors, H LSTM units.

Where rows of several agents stand in one axis, those of an agent are a block, and the blocks are in the agents' order.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from epo_lightning.algorithm.distributions import ActionDistribution, Categorical, Gaussian
from epo_lightning.algorithm.population import MASTER
from epo_lightning.learner.activations import ACTIVATIONS
from epo_lightning.learner.actor_critic import ActorCritic, ActorCriticSettings, Expression, PolicyOutput
from epo_lightning.learner.observations import Groups, pixels, require_own_critic, seen_by_actors, seen_groups
from epo_lightning.learner.stacked import StackedLinear, rows_of, side_by_side
from epo_lightning.learner.stacked_images import SeeingTrunk, stacked_encoder
from epo_lightning.learner.stacked_moments import StackedMoments
from epo_lightning.learner.stacked_standalone import StackedTrunkAndHead
from epo_lightning.learner.stacked_trunks import StackedTrunk, build_trunk
from epo_lightning.learner.standalone import Standalone


class BlockOutput(NamedTuple):
    """What the networks say of their own rows.

    Attributes:
        actions: Which actions, float32; (A, B, ...), (A, T, B, ...) of a sequence.
        value: (A, B) or (A, T, B) float32 normalised value.
        state: (S, A, B, H) recurrent state after the last step.
    """

    actions: ActionDistribution
    value: Tensor
    state: Tensor


class StackedActorCritic(ActorCritic):
    """pi_k(a | s) and V_k(s) of K agents, each with normalisers of its own.

    Args:
        obs_dim: O.
        act_dim: Entries of an action, or choices.
        num_agents: K.
        settings: See `ActorCriticSettings`.
        discrete: The action is one of `act_dim` choices; there is no log-std then.
        groups: Of the observation; only critics of their own see the privileged ones.

    Raises:
        Mistake: When a group is for critics of their own, and there are none.
    """

    obs_moments: StackedMoments
    value_moments: StackedMoments
    best: Tensor

    def __init__(
        self,
        obs_dim: int,
        act_dim: int,
        num_agents: int,
        settings: ActorCriticSettings,
        discrete: bool = False,
        groups: Groups = (),
    ) -> None:
        super().__init__()
        require_own_critic(groups, settings.separate_critic)
        self.settings, self.discrete, self.num_agents = settings, discrete, num_agents
        self.state_shape = settings.state_shape
        self.obs_moments = StackedMoments(num_agents, (obs_dim,), settings.obs_clip, pixels=pixels(groups))
        self.value_moments = StackedMoments(num_agents)
        log_std = torch.full((num_agents, 0 if discrete else act_dim), settings.log_std_init)
        self.log_std = nn.Parameter(log_std, requires_grad=not discrete)
        self.sees = seen_by_actors(groups, obs_dim)
        self.actor = _trunk(num_agents, seen_groups(groups), self.sees, settings)
        self.critic = _trunk(num_agents, groups, obs_dim, settings) if settings.separate_critic else None
        self.action_head = StackedLinear(num_agents, self.actor.outputs, act_dim)
        self.value_head = StackedLinear(num_agents, (self.critic or self.actor).outputs, 1)
        self.register_buffer("best", torch.tensor(MASTER))

    @property
    def parameters_per_row(self) -> int:
        """Those of one agent; weights of convolutions as often as they are used."""
        looking = [trunk.encoder.reuses for trunk in (self.actor, self.critic) if isinstance(trunk, SeeingTrunk)]
        return super().parameters_per_row // self.num_agents + sum(looking)

    @property
    def champion(self) -> int:
        """Who is evaluated."""
        return int(self.best)

    @champion.setter
    def champion(self, agent: int) -> None:
        self.best.fill_(agent)

    def name_of(self, agent: int) -> str:
        """There is no master: only a best one."""
        return "champion" if agent == self.champion else f"agent {agent}"

    def express(self, agent_ids: Tensor) -> Expression:
        """The log-stds of the rows' agents; everything else that makes them differ is in weights."""
        return Expression(agent_ids.new_zeros(0), None, functional.embedding(agent_ids, self.log_std))

    def forward(self, obs: Tensor, rows: Expression, state: Tensor, resets: Tensor | None = None) -> PolicyOutput:
        """One step, or a sequence, of rows in K blocks; `rows` as `express` tells them of the agents in order."""
        blocks = obs.unflatten(-2, (self.num_agents, -1))
        is_sequence = obs.dim() == 3
        if is_sequence:
            blocks = blocks.transpose(0, 1)
            resets = None if resets is None else resets.unflatten(1, (self.num_agents, -1)).transpose(0, 1)
        output = self.of_blocks(blocks, state.unflatten(1, (self.num_agents, -1)), resets)
        head, value = output.actions[0], output.value
        if is_sequence:
            head, value = head.transpose(0, 1), value.transpose(0, 1)
        head, value = head.flatten(-3, -2), value.flatten(-2)
        actions = Categorical(head) if self.discrete else Gaussian(head, rows.log_std)
        return PolicyOutput(actions, value, output.state.flatten(1, 2))

    def of_blocks(
        self, obs: Tensor, state: Tensor, resets: Tensor | None = None, agents: Tensor | None = None
    ) -> BlockOutput:
        """What each agent says of its own rows.

        Args:
            obs: (A, B, O) normalised observations; (A, T, B, O) for a sequence.
            state: (S, A, B, H) before the first step.
            resets: (A, T, B) bool: an episode starts at this step, its state is zeroed first.
            agents: (A,) who is asked; None for all.
        """
        features, new_state = self.actor(self.seen(obs), state[:2], resets, agents)
        value_features = features
        if self.critic is not None:
            value_features, critic_state = self.critic(obs, state[2:], resets, agents)
            new_state = torch.cat([new_state, critic_state])
        rows = obs.shape[1:-1]
        if self.critic is None:  # both heads in one product: a fifth of the time of a small network
            outputs = side_by_side(features, [self.action_head, self.value_head], agents).float()
            head, value = outputs.split([outputs.shape[-1] - 1, 1], dim=-1)
        else:
            head, value = self.action_head(features, agents).float(), self.value_head(value_features, agents).float()
        head, value = head.unflatten(1, rows), value.squeeze(-1).unflatten(1, rows)
        if self.discrete:
            return BlockOutput(Categorical(head), value, new_state)
        log_std = rows_of(self.log_std, agents)
        return BlockOutput(Gaussian(head, log_std.view(len(log_std), *[1] * len(rows), -1)), value, new_state)

    @torch.no_grad()
    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Policy.act`; the rows may be anybody's, in any order."""
        agents, block, counts = agent_ids.unique(return_inverse=True, return_counts=True)
        longest = int(counts.max())
        order = block.argsort(stable=True)
        first = counts.cumsum(0) - counts
        place = torch.empty_like(block)
        place[order] = torch.arange(len(block), device=block.device) - first[block[order]]
        slot = block * longest + place  # blocks of one length, not all of them full
        given = self.seen(obs)
        padded = given.new_zeros(len(agents) * longest, self.sees).index_copy(0, slot, given)
        states = self.initial_state(len(padded), obs.device).index_copy(1, slot, state)
        normalize = self.obs_moments.normalizer(agents).first(self.sees)
        seen = normalize(padded).unflatten(0, (len(agents), longest))
        states = states.unflatten(1, seen.shape[:2])
        if self.sees == self.obs_moments.mean.shape[-1]:
            output = self.of_blocks(seen, states, None, agents)
            head, new_state = output.actions[0], output.state
        else:  # the critics, who see more, are not asked: their part of the state stays as it is
            features, actor_state = self.actor(seen, states[:2], None, agents)
            head = self.action_head(features, agents).float().unflatten(1, seen.shape[1:-1])
            new_state = torch.cat([actor_state, states[2:]])
        head = head.flatten(0, 1)[slot]
        policy = Categorical(head) if self.discrete else Gaussian(head, self.log_std[agent_ids])
        return policy.mode() if generator is None else policy.draw(generator), new_state.flatten(1, 2)[:, slot]

    def standalone(self, agent: int, *, discrete: bool, everybody: bool = False) -> Standalone:
        """One actor, or all of them; see `Policy.standalone`."""
        return StackedTrunkAndHead(
            self.obs_moments.normalizer().first(self.sees),
            agent,
            self.num_agents if everybody else None,
            self.actor,
            self.action_head,
            discrete=self.discrete,
            units=self.state_shape[1],
        )

    @torch.no_grad()
    def keep_values(self, old_std: Tensor, old_mean: Tensor) -> None:
        """See `ActorCritic.keep_values`; (K,) each."""
        std, mean = self.value_scale()
        self.value_head.weight.mul_((old_std / std)[:, None, None])
        bias = self.value_head.bias
        bias.mul_(old_std[:, None]).add_((old_mean - mean)[:, None]).div_(std[:, None])

    @torch.no_grad()
    def copy_agents(self, agents: Tensor, parents: Tensor) -> None:
        """`agents` (M,) get the weights and normalisers of `parents` (M,); nobody else changes."""
        moments = (self.obs_moments.mean, self.obs_moments.var, self.value_moments.mean, self.value_moments.var)
        for table in (*self.parameters(), *moments):
            table[agents] = table[parents]


def _trunk(agents: int, groups: Groups, obs_dim: int, settings: ActorCriticSettings) -> StackedTrunk:
    """The trunks that `settings` ask for, of so many agents who see `groups` of `obs_dim` entries."""
    activation = ACTIVATIONS[settings.activation]
    encoder, inputs = stacked_encoder(agents, groups, obs_dim, settings, activation)
    trunk = build_trunk(agents, inputs, settings.state_shape[1], settings.widths, activation)
    return trunk if encoder is None else SeeingTrunk(encoder, trunk)
