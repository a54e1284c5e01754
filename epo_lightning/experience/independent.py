"""Rollouts of K policies that share nothing: each learns from its own environments, in minibatches of its own.

Shape legend: K agents, A of them that learn, n environments of each on this rank, N = K n, T horizon, B samples of a
minibatch and agent, U samples of an agent: T n transitions, or n sequences with an LSTM.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from epo_lightning.algorithm.independent import IndependentBatch
from epo_lightning.algorithm.population import Population
from epo_lightning.envs.base import EnvSpec, StepResult
from epo_lightning.experience.base import Minibatch
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.mirror import Mirror
from epo_lightning.experience.on_policy import OnPolicyDataset
from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.experience.targets import Targets
from epo_lightning.experience.world import World
from epo_lightning.learner.actor_critic import Expression
from epo_lightning.learner.hyper_parameters import HyperParameters
from epo_lightning.learner.normalization import Pending
from epo_lightning.learner.stacked_moments import normalize_blocks
from epo_lightning.learner.stacked_networks import StackedActorCritic


class IndependentTargets(Targets):
    """Each agent's own discount and scale.

    Args:
        buffer: Raw observations, actions, log-probs, values and outcomes of T steps.
        policy: The networks that acted; their normalisers take the rollout in.
        settings: Of the rollout, but for the discount.
        gamma: (K,) discounts.
        mirror: Of the samples; None where their images are not learned from.
    """

    def __init__(
        self,
        buffer: RolloutBuffer,
        policy: StackedActorCritic,
        settings: OnPolicySettings,
        gamma: Tensor,
        mirror: Mirror | None = None,
    ) -> None:
        super().__init__(buffer, policy, settings, mirror)
        self._gamma = gamma.float().repeat_interleave(buffer.population.envs_per_agent)

    @property
    def gamma(self) -> Tensor:
        """(N,)."""
        return self._gamma

    def _normalized(self, advantages: Tensor, *beside: Pending) -> Tensor:
        """Over all samples of an agent, of all ranks; `beside` is merged in the same collective call."""
        return normalize_blocks(advantages, self.buffer.population.num_agents, *beside)

    def _explained_variance(self, values: Tensor, targets: Tensor) -> Tensor:
        """() mean over the agents."""
        errors, targets = (
            each.unflatten(1, (self.buffer.population.num_agents, -1)).transpose(0, 1).flatten(1)
            for each in (targets - values, targets)
        )
        explained: Tensor = 1 - errors.var(1) / targets.var(1).clamp(min=1e-12)
        return explained.mean()


def independent_shape(
    spec: EnvSpec, state_shape: tuple[int, int], population: Population, settings: OnPolicySettings
) -> RolloutShape:
    """Sizes of the rollouts of a population of networks with such states, in such environments."""
    action_dim = 1 if spec.discrete else spec.act_dim
    sizes = 0, spec.obs_dim, action_dim, state_shape
    return RolloutShape(settings.horizon, population, *sizes, mirrored=settings.symmetry)


def minibatches_of_each(settings: OnPolicySettings, shape: RolloutShape) -> int:
    """Of an agent in a pass over its own samples.

    Raises:
        Mistake: When it has fewer samples, or they cannot be divided so.
    """
    return settings.minibatches(shape.units // shape.population.num_agents, shape.steps_per_unit)


class IndependentDataset(OnPolicyDataset):
    """Streams one rollout per pass.

    Args:
        world: The environments; N of them.
        policy: The networks that act; their normalisers are updated here, once per rollout.
        population: Who acts where.
        settings: See `OnPolicySettings`; discounts and numbers of passes are hyper-parameters.
        hyper_parameters: Those.
    """

    policy: StackedActorCritic

    def __init__(
        self,
        world: World,
        policy: StackedActorCritic,
        population: Population,
        settings: OnPolicySettings,
        hyper_parameters: HyperParameters,
    ) -> None:
        shape = independent_shape(world.env.spec, policy.state_shape, population, settings)
        super().__init__(world, policy, population, settings, shape, minibatches_of_each(settings, shape))
        self.hyper_parameters = hyper_parameters
        first = torch.arange(population.num_agents, device=self.device) * population.envs_per_agent
        self._first = first.unsqueeze(1)

    @property
    def forward_passes(self) -> int:
        """Once forward to act, and forward and backward for every use of a sample."""
        epochs = float(self.hyper_parameters["num_epochs"].mean())
        return round(self.buffer.shape.columns * self.settings.horizon * (1 + 3 * epochs * self.settings.passes))

    def one_pass(self, agents: Tensor | None = None) -> Iterator[IndependentBatch]:
        """All samples of some agents (A,), or of all, once, in `num_minibatches` minibatches.

        Every agent shuffles its own: one random order, begun by each at a random place of its own, is a random order
        for each. Those that are left out draw, too, so that nobody's order hangs on the others.
        """
        own, block = self.buffer.units // self.population.num_agents, self.population.envs_per_agent
        order = torch.randperm(own, generator=self.generator, device=self.device)
        begin = torch.zeros_like(self._first)  # the first agent's own place is the beginning
        begin[1:] = torch.randint(own, begin[1:].shape, generator=self.generator, device=self.device)
        drawn = order[(torch.arange(own, device=self.device) + begin) % own]
        units = drawn + self._first
        if not self.buffer.recurrent:
            # step t, environment e of the agent's own: sample t N + (the agent's first + e) of the buffer
            units = drawn.div(block, rounding_mode="floor") * self.population.num_envs + drawn % block + self._first
        if agents is not None:
            units = units[agents]
        for part in units.tensor_split(self.num_minibatches, dim=1):
            self._passes.append(part)
            yield self._gather(part)

    def one_pass_with_images(
        self, agents: Tensor | None = None
    ) -> Iterator[tuple[IndependentBatch, IndependentBatch | None]]:
        """The same, each with its mirror image; None where images are not learned from."""
        for batch in self.one_pass(agents):
            if self.mirror is None:
                yield batch, None
            else:
                states, units = batch.states, self._passes[-1]
                if self.buffer.recurrent:
                    states = self.buffer.image_states.index_select(1, units.flatten()).unflatten(1, units.shape)
                yield batch, self.mirror.image(batch, states, agents)

    def _gather(self, units: Tensor) -> IndependentBatch:
        """The samples `units` (A, B)."""
        buffer, size = self.buffer, units.shape
        flat = units.flatten()
        fields: list[Tensor] = [buffer.obs[:-1], buffer.actions, buffer.scalars[:-1]]
        if buffer.recurrent:
            obs, actions, scalars = (field.index_select(1, flat).unflatten(1, size).transpose(0, 1) for field in fields)
            states = buffer.states.index_select(1, flat).unflatten(1, size)
            resets = buffer.resets[:-1].index_select(1, flat).unflatten(1, size).transpose(0, 1)
        else:
            obs, actions, scalars = (field.flatten(0, 1).index_select(0, flat).unflatten(0, size) for field in fields)
            states, resets = buffer.states.new_zeros(0, *size, 0), None
        log_probs, _, targets, advantages, values = scalars.unbind(-1)
        return IndependentBatch(obs, actions, log_probs, values, targets, advantages, states, resets)

    def minibatch(self, index: int) -> Minibatch:
        """The `index`-th minibatch of this iteration: the samples of all agents that learned from it."""
        units = self._passes[index]
        batch = {name: value for name, value in self._gather(units)._asdict().items() if value is not None}
        states, recurrent = batch.pop("states"), self.buffer.recurrent
        if recurrent:
            tensors = {name: value.transpose(0, 1).flatten(1, 2) for name, value in batch.items()}
            tensors["states"] = states.flatten(1, 2)
        else:
            tensors = {name: value.flatten(0, 1) for name, value in batch.items()}
        envs = units.flatten() if recurrent else units.flatten() % self.population.num_envs
        return Minibatch(tensors, envs, recurrent)

    def _complete(self, last_value: Tensor) -> None:
        """Every agent by its own discount."""
        gamma = self.hyper_parameters["gamma"]
        targets = IndependentTargets(self.buffer, self.policy, self.settings, gamma, self.mirror)
        targets.complete(last_value)
        self.diagnostics |= targets.diagnostics
        self.of_agents = {}

    def _value_final_observations(self, t: int, result: StepResult, rows: Expression, state: Tensor) -> None:
        """Of all environments at once, since blocks are of one length: only what was truncated is read."""
        if result.final_obs is None:
            self.tell_of_missing_final_obs()
            self.buffer.final_values[t] = self.buffer.values[t]
            return
        with self.autocast():
            self.buffer.final_values[t] = self.policy(
                self.policy.obs_moments.normalize(result.final_obs), rows, state
            ).value
