"""What the network of any population offers to callers that only want it to act.

Shape legend: N environments, K agents, O observation entries, P those that an actor sees, A action entries,
S recurrent state tensors, H LSTM units.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from epo_lightning.algorithm.population import MASTER
from epo_lightning.learner.normalization import RunningMoments
from epo_lightning.learner.standalone import LOGITS, Port, Standalone
from epo_lightning.limits import Mistake


class Policy(nn.Module):
    """K agents that act in environments: what evaluation, films, the browser and the profiler know of a network.

    Attributes:
        num_agents: K.
    """

    num_agents: int

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    @property
    def champion(self) -> int:
        """The agent that is evaluated, and that acts where nobody is named."""
        return MASTER

    def name_of(self, agent: int) -> str:
        """What an agent is called in captions."""
        return "master" if agent == MASTER else f"follower {agent}"

    @abstractmethod
    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        """(S, N, H) zeros: the state at an episode's start."""

    @abstractmethod
    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The likeliest actions, as the environment takes them, and the new state.

        Args:
            obs: (N, O) raw observations; (N, P) will do.
            agent_ids: (N,) who acts in each.
            state: (S, N, H).
            generator: Draw the actions with it, instead of taking the likeliest ones.
        """

    def standalone(self, agent: int, *, discrete: bool, everybody: bool = False) -> Standalone:
        """What a file keeps of it: one agent, or all of them with an input that says who acts.

        Args:
            agent: Who acts where nobody is named.
            discrete: Whether the task's actions are choices.
            everybody: Also where they share no weights.

        Raises:
            Mistake: When it cannot keep everybody.
        """
        if everybody and self.num_agents > 1:
            raise Mistake("--agent all: this algorithm's network exports one agent at a time: give its number")
        return AsItActs(self, agent, discrete)


class NormalizingPolicy(Policy):
    """A policy that normalises what it observes, by moments that whoever collects experience keeps up to date.

    An actor sees the first P columns of an observation: all but those of privileged groups.

    Attributes:
        obs_moments: Of the raw observations.
        sees: P.
    """

    obs_moments: RunningMoments
    sees: int

    def seen(self, obs: Tensor) -> Tensor:
        """(..., P) of observations (..., O), or (..., P) as they are."""
        return obs if obs.shape[-1] == self.sees else obs[..., : self.sees]

    def look(self, obs: Tensor) -> Tensor:
        """(N, P) normalised, of raw observations (N, O) or of what an actor sees of them, (N, P)."""
        return self.obs_moments.normalizer().first(self.sees)(self.seen(obs))


class AsItActs(Standalone):
    """Any policy, by its own `act`, with one agent that is fixed: where an exporter can follow that.

    Args:
        policy: It.
        agent: Who acts.
        discrete: The action is a choice; no logits are told.
    """

    def __init__(self, policy: Policy, agent: int, discrete: bool) -> None:
        states, _, units = policy.initial_state(1).shape
        super().__init__(None, discrete=discrete, memory=(Port("state", (states, units)),) if states else ())
        self.policy, self.agent = policy, agent

    @property
    def outputs(self) -> list[str]:
        """Without logits."""
        return [name for name in super().outputs if name != LOGITS]

    def decide(self, obs: Tensor, who: Tensor | None, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The actions, as the environment takes them; see `Standalone.decide`."""
        rows = obs.shape[0]
        agents = torch.full((rows,), self.agent, device=obs.device)
        state = memory[0].transpose(0, 1) if memory else self.policy.initial_state(rows, obs.device)
        action, state = self.policy.act(obs, agents, state)
        return action, (state.transpose(0, 1),) if memory else ()

    def forward(self, observation: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """See `Standalone`."""
        action, memory = self.decide(observation, None, others)
        return (action, *memory)
