"""The rollouts of a population that learns from each other's data.

Shape legend: N environments, T horizon, O observation, A action, W = N + off-policy and coupled columns.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from epo_lightning.algorithm.aggregation import off_policy_envs
from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.population import MASTER, Population
from epo_lightning.envs.base import EnvSpec, StepResult
from epo_lightning.experience.base import Minibatch
from epo_lightning.experience.buffer import RolloutShape
from epo_lightning.experience.comparison import Comparison
from epo_lightning.experience.diversity import Diversity
from epo_lightning.experience.on_policy import OnPolicyDataset
from epo_lightning.experience.relabelled_targets import RelabelledTargets
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.world import World
from epo_lightning.learner.actor_critic import Expression
from epo_lightning.learner.networks import LatentActorCritic


class RolloutDataset(OnPolicyDataset):
    """Rollouts with their targets and the relabelled samples for the master, and for who is coupled to it.

    Args:
        world: The environments; N of them.
        policy: The network that acts; its normalisers are updated here, once per rollout.
        population: Who acts where.
        settings: See `RolloutSettings`.
        coupled: M, followers that learn from each of the master's environments; 0 where they are not coupled to it.
        diversity: Rewards followers for being told apart; None where nothing does.

    Attributes:
        comparison: Of the followers with the master; None where there is nobody else.
    """

    policy: LatentActorCritic
    settings: RolloutSettings

    def __init__(
        self,
        world: World,
        policy: LatentActorCritic,
        population: Population,
        settings: RolloutSettings,
        coupled: int = 0,
        diversity: Diversity | None = None,
    ) -> None:
        shape = rollout_shape(world.env.spec, policy.state_shape, population, settings, coupled)
        minibatches = settings.minibatches(shape.units, shape.steps_per_unit)
        super().__init__(world, policy, population, settings, shape, minibatches)
        self.diversity = diversity
        self.comparison = Comparison(self.buffer, policy) if population.num_agents > 1 else None

    @property
    def forward_passes(self) -> int:
        """Once forward to act, and forward and backward for every use of a sample."""
        settings = self.settings
        return self.buffer.shape.columns * settings.horizon * (1 + 3 * settings.num_epochs * settings.passes)

    def one_pass(self) -> Iterator[RolloutBatch]:
        """All samples of the rollout once, shuffled, in `num_minibatches` minibatches."""
        self._passes.append(torch.randperm(self.buffer.units, generator=self.generator, device=self.device))
        yield from self.buffer.minibatches(self._passes[-1], self.num_minibatches)

    def one_pass_with_images(self) -> Iterator[tuple[RolloutBatch, RolloutBatch | None]]:
        """The same, each with its mirror image; None where images are not learned from."""
        for place, batch in enumerate(self.one_pass()):
            if self.mirror is None:
                yield batch, None
            else:
                units = self._passes[-1].tensor_split(self.num_minibatches)[place]
                states = self.buffer.image_states[:, units] if self.buffer.recurrent else batch.states
                yield batch, self.mirror.image(batch, states)

    def minibatch(self, index: int) -> Minibatch:
        """The `index`-th minibatch of this iteration; behind the environments stand the relabelled columns."""
        number, place = divmod(index, self.num_minibatches)
        units = self._passes[number].tensor_split(self.num_minibatches)[place]
        columns = units if self.buffer.recurrent else units % self.buffer.shape.columns
        (batch,) = self.buffer.minibatches(units, 1)
        return Minibatch({**batch._asdict(), "units": units}, columns, self.buffer.recurrent)

    @torch.no_grad()
    def collect(self) -> None:
        """Then the classifier of the agents learns from the rollout, where there is one."""
        super().collect()
        if self.diversity is not None:
            start = self.clock()
            self.diversity.learn(self.buffer, self.generator)
            self.seconds["diversity"] = self.clock() - start

    def saved(self) -> dict[str, Any]:
        """Also the classifier."""
        diversity = {} if self.diversity is None else {"diversity": self.diversity.saved()}
        return {**super().saved(), **diversity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Also the classifier, from a run that had one."""
        super().restore(state)
        if self.diversity is not None and "diversity" in state:
            self.diversity.restore(state["diversity"])

    def _complete(self, last_value: Tensor) -> None:
        """Also compare the followers with the master."""
        targets = RelabelledTargets(
            self.buffer, self.policy, self.settings, self.generator, self.autocast, self.diversity, self.mirror
        )
        targets.complete(last_value)
        self.diagnostics |= targets.diagnostics
        self.of_agents = self.comparison.tell(targets.sources, self.autocast) if self.comparison else {}

    def _remember(self, t: int) -> None:
        """For the comparison."""
        if self.comparison and self.policy.recurrent:
            self.comparison.remember(t, self.state)

    def _value_final_observations(self, t: int, result: StepResult, rows: Expression, state: Tensor) -> None:
        """Also under the master's gene."""
        cut = result.truncated.nonzero().squeeze(1)
        if result.final_obs is None:
            self.tell_of_missing_final_obs()
            final_obs, state = self.buffer.obs[t, cut], self.state
        else:
            final_obs = result.final_obs[cut]
        obs = self.policy.obs_moments.normalize(final_obs)
        with self.autocast():
            self.buffer.final_values[t, cut] = self.policy(obs, rows.at(cut), state[:, cut]).value
            if not self.policy.recurrent:
                master = self.policy.express(torch.full_like(cut, MASTER))
                self.buffer.master_final_values[t, cut] = self.policy(obs, master, state[:, cut]).value
        if result.final_obs is None:
            return
        if self.policy.recurrent:
            self.buffer.final_obs.append((t, cut, obs))  # the master's state is another one: `Targets` rolls it
        elif self.buffer.shape.coupled_columns:
            masters = self.agent_ids[cut] == MASTER
            self.buffer.final_obs.append((t, cut[masters], obs[masters]))


def rollout_shape(
    spec: EnvSpec,
    state_shape: tuple[int, int],
    population: Population,
    settings: RolloutSettings,
    coupled: int = 0,
) -> RolloutShape:
    """Sizes of the rollouts of `population` in such environments, of whose master's `coupled` followers see each."""
    columns = off_policy_envs(population, settings.off_policy_ratio, settings.off_policy_source)
    action_dim, couplings = 1 if spec.discrete else spec.act_dim, population.master_envs * coupled
    sizes = columns, spec.obs_dim, action_dim, state_shape, couplings
    return RolloutShape(settings.horizon, population, *sizes, mirrored=settings.symmetry)
