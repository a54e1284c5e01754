"""A policy as a file keeps it: tensors in, tensors out, and nothing that learns.

Shape legend: N rows, K agents, O observation entries, A action entries, Z gene entries, H LSTM units, S recurrent state
tensors.

An exporter follows one `forward`, so there are no numbers of agents to look up, no branches on data, no critic and no
float64. The normaliser of the observations is inside, and so is the clipping of the actions.
"""

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from epo_lightning.algorithm.distributions import Categorical
from epo_lightning.learner.normalization import Normalizer

OBSERVATION, ACTION, LOGITS, GENE, AGENT = "observation", "action", "logits", "gene", "agent"
"""Names of inputs and outputs."""
NEXT = "_out"
"""What is put behind the name of a memory's input: the output that is fed to it in the next step."""


class Port(NamedTuple):
    """An input that is carried from step to step.

    Attributes:
        name: Its name.
        shape: Of one row.
    """

    name: str
    shape: tuple[int, ...]


class Who(NamedTuple):
    """The input that says which agent acts.

    Attributes:
        name: `gene` or `agent`.
        values: (K, Z) genes, or (K,) numbers: what it is for each agent.
        agent: Who acts where it is not given.
    """

    name: str
    values: Tensor
    agent: int

    def of(self, agent: int) -> Tensor:
        """(1, Z) or (1,) what it is for one agent."""
        return self.values[agent : agent + 1]


def lstm_memory(units: int) -> tuple[Port, ...]:
    """Of an LSTM with so many units; 0 for none."""
    return (Port("hidden", (units,)), Port("cell", (units,))) if units else ()


class Standalone(nn.Module):
    """`forward(observation, [who], *memory)` -> `(action, [logits], *memory after the step)`.

    Args:
        normalizer: Of the raw observations; None where `forward` is a subclass's own.
        discrete: The action is a choice; its logits are told, too.
        who: The input that says which agent acts; None where there is one agent.
        memory: What is carried from step to step, zeros where an episode begins.

    Attributes:
        discrete: See the argument.
        who: See the argument.
        memory: See the argument.
        clip: Normalised observations are clipped to +-clip; None: they are not.
        mean: Of the raw observations.
        scale: One over their standard deviation.
    """

    clip: float | None
    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        normalizer: Normalizer | None,
        *,
        discrete: bool = False,
        who: Who | None = None,
        memory: tuple[Port, ...] = (),
    ) -> None:
        super().__init__()
        self.discrete, self.who, self.memory = discrete, who, memory
        self.clip = None
        if normalizer is not None:
            self.register_buffer("mean", normalizer.mean.clone())
            self.register_buffer("scale", normalizer.scale.clone())
            self.clip = normalizer.clip

    @property
    def inputs(self) -> list[str]:
        """Names, in the order of `forward`."""
        who = [self.who.name] if self.who is not None else []
        return [OBSERVATION, *who, *(port.name for port in self.memory)]

    @property
    def outputs(self) -> list[str]:
        """Names, in the order of what `forward` returns."""
        return [ACTION, *([LOGITS] if self.discrete else []), *(port.name + NEXT for port in self.memory)]

    @abstractmethod
    def decide(self, obs: Tensor, who: Tensor | None, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Head (N, A) and new memory.

        Args:
            obs: (N, O), normalised.
            who: What the input `who` says; None where there is none.
            memory: Each (N, *shape).

        Returns:
            The actions in [-1, 1] or beyond, where they are clipped; logits of choices.
        """

    def forward(self, observation: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """One step of N rows; see the class."""
        who, memory = (None, others) if self.who is None else (others[0], others[1:])
        head, memory = self.decide(self.normalized(observation, who), who, memory)
        if self.discrete:
            return (Categorical(head).mode(), head, *memory)
        return (head.clamp(-1.0, 1.0), *memory)

    def normalized(self, observation: Tensor, who: Tensor | None) -> Tensor:
        """(N, O) of raw observations."""
        return self.clipped((observation - self.mean) * self.scale)

    def clipped(self, normal: Tensor) -> Tensor:
        """Normalised observations within their bounds."""
        return normal if self.clip is None else normal.clamp(-self.clip, self.clip)


class StandaloneMLP(Standalone):
    """One agent whose actions are squashed by tanh.

    Args:
        normalizer: Of the raw observations.
        mlp: Its first outputs are the actions before they are squashed.
        act_dim: A.
    """

    def __init__(self, normalizer: Normalizer, mlp: nn.Module, act_dim: int) -> None:
        super().__init__(normalizer)
        self.mlp, self.act_dim = mlp, act_dim

    def decide(self, obs: Tensor, who: Tensor | None, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Standalone.decide`."""
        return self.mlp(obs).float()[:, : self.act_dim].tanh(), memory
