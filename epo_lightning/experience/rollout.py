"""On-device rollouts: collect T steps of N environments, then stream them as shuffled minibatches.

Shape legend: N environments, T horizon, K agents, O observation, A action, W = N + off-policy columns, S recurrent
state tensors, H LSTM units.

One pass over `RolloutDataset` is one iteration: a rollout with the present parameters, its targets, the relabelled
samples for the master, then `num_epochs` x `num_minibatches` minibatches of all of it.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from epo_lightning.algorithm.aggregation import off_policy_envs
from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.distributions import CategoricalSampler, GaussianSampler
from epo_lightning.algorithm.population import MASTER, Population
from epo_lightning.envs.base import StepResult, VectorEnv
from epo_lightning.envs.contract import check_first, check_result, load_state
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.env_log import EnvLog
from epo_lightning.experience.episodes import EpisodeLedger, FinishedEpisodes
from epo_lightning.experience.fitness import FitnessWindow
from epo_lightning.experience.saved_state import require_readable
from epo_lightning.experience.settings import RolloutSettings
from epo_lightning.experience.targets import Targets
from epo_lightning.learner.networks import Expression, LatentActorCritic
from epo_lightning.limits import Mistake


class RolloutDataset(IterableDataset[RolloutBatch]):
    """Streams the minibatches of one rollout per pass; owns what goes on from rollout to rollout.

    Args:
        env: The environments; N of them.
        policy: The network that acts; its normalisers are updated here, once per rollout.
        population: Who acts where.
        settings: See `RolloutSettings`.
        generator: Source of action noise and shuffles, on the environments' device.
        world_size: Ranks that collect at the same time, for the count of env steps.
        autocast: Context in which the network runs (mixed precision).

    Attributes:
        fitness: What every agent's episodes return, since the window was opened.
        individuals: (K,) int64 on the CPU: who lives in each row of the population; a new gene is a new individual.
        env_steps: Env steps made so far, over all environments and ranks.
        episodes: What finished in the last rollout.
        diagnostics: Scalars on the device that describe the last rollout.
        lacks_final_obs: An episode was truncated and the environment did not say in which observation.
        seconds: Host time of the last rollout by part: `env`, `inference`, `targets`.
    """

    def __init__(
        self,
        env: VectorEnv,
        policy: LatentActorCritic,
        population: Population,
        settings: RolloutSettings,
        generator: torch.Generator,
        world_size: int = 1,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.env, self.policy, self.population, self.settings = env, policy, population, settings
        self.generator, self.world_size, self.autocast = generator, world_size, autocast
        self.device = generator.device
        self.buffer = RolloutBuffer(rollout_shape(env, policy.state_shape, population, settings), self.device)
        if settings.num_minibatches > self.buffer.units:
            raise Mistake(
                f"data.rollout.num_minibatches must be at most {self.buffer.units}, the number of"
                f" {'sequences' if policy.recurrent else 'samples'} of an iteration; got {settings.num_minibatches}"
            )
        self.agent_ids = population.agent_of_env(self.device)
        self.ledger = EpisodeLedger(population.num_envs, self.device)
        self.state = policy.initial_state(population.num_envs, self.device)
        self.obs: Tensor | None = None
        self.env_steps = 0
        self.episodes: FinishedEpisodes | None = None
        self.diagnostics: dict[str, Tensor] = {}
        self.seconds: dict[str, float] = {}
        self.fitness = FitnessWindow(population.num_agents, population.num_envs, self.device)
        self.individuals = torch.arange(population.num_agents)
        self.clock: Callable[[], float] = time.perf_counter
        self._passes: list[Tensor] = []
        self.lacks_final_obs = False

    def __len__(self) -> int:
        return self.settings.num_epochs * self.settings.num_minibatches

    def __iter__(self) -> Iterator[RolloutBatch]:
        self.collect()
        self._passes = []
        for index in range(len(self)):
            if index % self.settings.num_minibatches == 0:
                self._passes.append(torch.randperm(self.buffer.units, generator=self.generator, device=self.device))
            yield self.buffer.gather(self.minibatch_units(index))

    def minibatch_units(self, index: int) -> Tensor:
        """Which samples of the buffer the `index`-th minibatch of this iteration holds."""
        number, place = divmod(index, self.settings.num_minibatches)
        return self._passes[number].tensor_split(self.settings.num_minibatches)[place]

    @torch.no_grad()
    def collect(self) -> None:
        """Fill the buffer with one rollout and everything that the losses need of it."""
        self.seconds = dict.fromkeys(("env", "inference", "targets"), 0.0)
        if self.obs is None:
            self.obs = self.env.reset()
            check_first(self.obs, self.env.spec, self.device)
            require_readable(
                self.env.state_dict(), "env", f"state_dict() of data.env ({self.env.spec.name}) returns it"
            )
        last_value = self._interact()
        start = self.clock()
        buffer = self.buffer
        self._refuse_nonfinite()
        done = buffer.terminated | buffer.truncated
        self.episodes = self.ledger.record(buffer.rewards, buffer.successes, done)
        self.fitness.update(self.episodes)
        self.env_steps += done.numel() * self.world_size
        targets = Targets(buffer, self.policy, self.settings, self.generator, self.autocast)
        self.diagnostics |= targets.complete(last_value)
        self.seconds["targets"] = self.clock() - start

    def _interact(self) -> Tensor:
        """T steps of every environment; returns the (N,) value of the state after them."""
        buffer, policy, envs = self.buffer, self.policy, self.population.num_envs
        rows = policy.express(self.agent_ids)
        kind: Any = CategoricalSampler if policy.discrete else GaussianSampler
        sampler = kind(buffer.actions[:, :envs], buffer.log_probs[:, :envs], rows.log_std, self.generator)
        buffer.states[:, :envs] = self.state
        buffer.final_obs.clear()
        log = EnvLog(self.device)
        assert self.obs is not None
        for t in range(self.settings.horizon):
            start = self.clock()
            buffer.obs[t, :envs] = self.obs
            with self.autocast():
                output = policy(policy.obs_moments.normalize(self.obs), rows, self.state)
            buffer.values[t, :envs] = output.value
            actions = sampler.sample(t, output.actions)
            acted = self.clock()
            result = self.env.step(actions)
            stepped = self.clock()
            check_result(result, self.env.spec, self.device)
            self._store(t, result, rows, output.state)
            log.add(result.log)
            self.seconds["env"] += stepped - acted
            self.seconds["inference"] += acted - start + self.clock() - stepped
        self.diagnostics = {f"env/{name}": mean for name, mean in log.means().items()}
        buffer.obs[-1, :envs] = self.obs
        with self.autocast():
            return policy(policy.obs_moments.normalize(self.obs), rows, self.state).value

    def _store(self, t: int, result: StepResult, rows: Expression, state: Tensor) -> None:
        """Keep the outcome of step t, and the values of the states in which episodes were truncated."""
        buffer, envs = self.buffer, self.population.num_envs
        buffer.rewards[t] = result.reward
        buffer.successes[t] = result.successes
        buffer.terminated[t] = result.terminated
        buffer.truncated[t] = result.truncated
        done = buffer.resets[t + 1, :envs] = result.terminated | result.truncated
        # One scalar per env step goes to the host: truncated episodes are rare, and an extra forward pass is not free
        if bool(result.truncated.any()):
            self._value_final_observations(t, result, rows, state)
        self.state = state.masked_fill(done[:, None], 0.0) if self.policy.recurrent else state
        self.obs = result.obs

    def _value_final_observations(self, t: int, result: StepResult, rows: Expression, state: Tensor) -> None:
        cut = result.truncated.nonzero().squeeze(1)
        if result.final_obs is None:
            self._tell_of_missing_final_obs()
            final_obs, state = self.buffer.obs[t, cut], self.state
        else:
            final_obs = result.final_obs[cut]
        obs = self.policy.obs_moments.normalize(final_obs)
        expressions = [Expression(rows.genes[cut], rows.log_std[cut])]
        if not self.policy.recurrent:
            expressions.append(self.policy.express(torch.full_like(cut, MASTER)))
        elif result.final_obs is not None:  # the master's state is another one: `Targets` rolls it
            self.buffer.final_obs.append((t, cut, obs))
        for row, expression in enumerate(expressions):
            with self.autocast():
                self.buffer.final_values[row, t, cut] = self.policy(obs, expression, state[:, cut]).value

    def _tell_of_missing_final_obs(self) -> None:
        if not self.lacks_final_obs:
            name = self.env.spec.name
            warnings.warn(f"{name} gives no final_obs: truncated episodes are bootstrapped with V(s_t)", stacklevel=2)
        self.lacks_final_obs = True

    def _refuse_nonfinite(self) -> None:
        """One scalar per rollout goes to the host; the search for the culprits only when there are some."""
        buffer = self.buffer
        actions, log_probs = (field[:, : self.population.num_envs] for field in (buffer.actions, buffer.log_probs))
        final_values = buffer.final_values[0].masked_fill(~buffer.truncated, 0.0)
        obs = buffer.obs[:, : self.population.num_envs]
        parts = (actions, obs, buffer.rewards, buffer.successes, final_values)
        if bool(torch.isfinite(torch.stack([part.sum() for part in parts]).sum())):
            return
        if bool(torch.isfinite(obs[0]).all()) and not bool(torch.isfinite(actions[0].sum() + log_probs[0].sum())):
            return  # the network is ill, not the environment: the loss will tell, and `NaNGuard` stops there
        bad = [_columns_not_finite(part) for part in parts]
        named = {"obs": bad[1], "reward": bad[2], "successes": bad[3], "final_obs": bad[4]}
        faults = "; ".join(f"{name} not finite in envs {envs[:16]}" for name, envs in named.items() if envs)
        if faults:
            raise Mistake(f"data.env: {self.env.spec.name} returned {faults}")

    def open_window(self) -> None:
        """Fitness is measured anew from here on, for every agent alike."""
        self.fitness.open(self.ledger.running, self.env_steps)

    def start_new_gene(self, agents: Tensor) -> None:
        """`agents` (M,) are other individuals now: their recurrent state is zeroed, and fitness is measured anew."""
        first = int(self.individuals.max()) + 1
        self.individuals[agents.cpu()] = torch.arange(first, first + len(agents))
        self.state = self.state.masked_fill(torch.isin(self.agent_ids, agents.to(self.device))[:, None], 0.0)
        self.open_window()

    # Not called state_dict: Lightning would save such a loader by itself a second time, the first rank's only

    def saved(self) -> dict[str, Any]:
        """Everything that the next rollout depends on, on this rank."""
        return {
            "env": self.env.state_dict(),
            "obs": self.obs,
            "state": self.state,
            "ledger": self.ledger.state_dict(),
            "fitness": self.fitness.state_dict(),
            "individuals": self.individuals,
            "generator": self.generator.get_state(),
            "env_steps": self.env_steps,
            "reward_scale": self.settings.reward_scale,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where `saved` was taken: exactly, or with new episodes where the simulator cannot restore."""
        load_state(self.env, state["env"])
        self.ledger.load_state_dict(state["ledger"])
        self.fitness.load_state_dict(state["fitness"])
        self.individuals = state["individuals"].clone()
        self.generator.set_state(state["generator"])
        self.env_steps = state["env_steps"]
        if self.env.spec.restores:
            self.obs = state["obs"].to(self.device)
            self.state = state["state"].to(self.device)
        else:  # `collect` resets the environments
            self.ledger.drop_running()
            self.open_window()
        # values are linear in the scale: the critic, which tells normalised ones, knows as much under a new scale
        self.policy.value_moments.rescale(self.settings.reward_scale / state["reward_scale"])


def _columns_not_finite(values: Tensor) -> list[int]:
    """Second indices of values (T, N, ...) at which something is not finite."""
    wrong = ~torch.isfinite(values)
    return wrong.reshape(*wrong.shape[:2], -1).any(-1).any(0).nonzero().flatten().tolist()


def rollout_shape(
    env: VectorEnv, state_shape: tuple[int, int], population: Population, settings: RolloutSettings
) -> RolloutShape:
    """Sizes of the rollouts of `population` in `env`."""
    columns = off_policy_envs(population, settings.off_policy_ratio, settings.off_policy_source)
    spec = env.spec
    return RolloutShape(
        settings.horizon, population, columns, spec.obs_dim, 1 if spec.discrete else spec.act_dim, state_shape
    )
