"""What stands between the observations of K networks and their heads.

Shape legend: K networks, A of them that are asked, T steps, B rows of each, I observation entries, H LSTM units.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from epo_lightning.learner.stacked import StackedLayerNorm, StackedLinear, stacked_layers, through


class StackedTrunk(nn.Module):
    """Features of K networks that share nothing.

    Attributes:
        outputs: Width of the features.
    """

    outputs: int

    @abstractmethod
    def forward(
        self, obs: Tensor, state: Tensor, resets: Tensor | None, networks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Features (A, B, outputs), (A, T B, outputs) of a sequence, and the new state.

        Args:
            obs: (A, B, I); (A, T, B, I) for a sequence.
            state: (2, A, B, H) before the first step; ignored without an LSTM.
            resets: (A, T, B) bool, zero the state before this step; None for no reset.
            networks: (A,) who is asked; None for all.
        """


class StackedMLPTrunk(StackedTrunk):
    """MLP.

    Args:
        networks: K.
        obs_dim: I.
        hidden: Widths of the layers; none: the inputs are the features.
        activation: Non-linearity behind each.
    """

    def __init__(self, networks: int, obs_dim: int, hidden: Sequence[int], activation: type[nn.Module]) -> None:
        super().__init__()
        self.mlp = stacked_layers(networks, [obs_dim, *hidden], activation)
        self.outputs = [obs_dim, *hidden][-1]

    def forward(
        self, obs: Tensor, state: Tensor, resets: Tensor | None, networks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Features of every row; the state is none of it."""
        return through(self.mlp, obs.flatten(1, -2), networks), state


class StackedLSTMTrunk(StackedTrunk):
    """LSTM -> LayerNorm -> MLP (the paper's network).

    Args:
        networks: K.
        obs_dim: I.
        units: H.
        hidden: Widths of the MLP's layers.
        activation: Non-linearity behind each.
    """

    def __init__(
        self, networks: int, obs_dim: int, units: int, hidden: Sequence[int], activation: type[nn.Module]
    ) -> None:
        super().__init__()
        # Gates in the order of `torch.nn.LSTMCell`, initialised as there
        self.input, self.memory = StackedLinear(networks, obs_dim, 4 * units), StackedLinear(networks, units, 4 * units)
        for parameter in (*self.input.parameters(), *self.memory.parameters()):
            nn.init.uniform_(parameter, -1 / math.sqrt(units), 1 / math.sqrt(units))
        self.norm = StackedLayerNorm(networks, units)
        self.mlp = stacked_layers(networks, [units, *hidden], activation)
        self.outputs = [units, *hidden][-1]

    def forward(
        self, obs: Tensor, state: Tensor, resets: Tensor | None, networks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One step, or a sequence."""
        steps = obs.shape[1] if obs.dim() == 4 else 1
        inputs = self.input(obs.flatten(1, -2), networks).unflatten(1, (steps, -1))
        hidden, cell = state[0], state[1]
        outputs = []
        for t in range(steps):
            if resets is not None:
                hidden, cell = (part.masked_fill(resets[:, t, :, None], 0.0) for part in (hidden, cell))
            gates = inputs[:, t] + self.memory(hidden, networks)
            enters, keeps, news, leaves = gates.chunk(4, -1)
            cell = keeps.sigmoid() * cell + enters.sigmoid() * news.tanh()
            hidden = leaves.sigmoid() * cell.tanh()
            outputs.append(hidden)
        features = torch.cat(outputs, 1) if steps > 1 else hidden
        new_state = torch.stack([hidden, cell])
        return through([self.norm, *self.mlp], features, networks), new_state.to(state.dtype)


def build_trunk(
    networks: int, obs_dim: int, units: int, hidden: Sequence[int], activation: type[nn.Module]
) -> StackedTrunk:
    """The trunk with an LSTM of so many units in front; 0 for none."""
    if not units:
        return StackedMLPTrunk(networks, obs_dim, hidden, activation)
    return StackedLSTMTrunk(networks, obs_dim, units, hidden, activation)
