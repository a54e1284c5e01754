"""What stands between an observation with a gene and the heads of the network.

Shape legend: N rows (environments or samples), T steps, K agents, I observation entries, Z gene entries, F trait
entries, H LSTM units.

The gene is an input next to the observation. What it does in the first layer is computed once per agent and looked up
for every row, where that layer is linear: W [obs, gene] + b = W_obs obs + (W_gene gene + b).
"""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import islice, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from epo_lightning.learner.lstm import lstm_sequence
from epo_lightning.learner.products import linear, linear_with, through


class Trunk(nn.Module):
    """Features of an observation and a gene.

    Attributes:
        outputs: Width of the features.
    """

    outputs: int

    @abstractmethod
    def traits(self, genes: Tensor) -> Tensor:
        """(K, F) how genes (K, Z) enter the network."""

    @abstractmethod
    def forward(
        self, obs: Tensor, traits: Tensor, state: Tensor, resets: Tensor | None, every_state: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Features and new state.

        Args:
            obs: (N, I); (T, N, I) for a sequence.
            traits: (N, F) of the rows.
            state: (2, N, H) before the first step; ignored without an LSTM.
            resets: (T, N) bool, zero the state before this step; None for no reset.
            every_state: Of a sequence: the state after every step, (2, T, N, H), instead of the last one.
        """


class MLPTrunk(Trunk):
    """MLP.

    Args:
        obs_dim: I.
        gene_dim: Z.
        hidden: Widths of the layers; none: the inputs are the features.
        activation: Non-linearity behind each.
    """

    def __init__(self, obs_dim: int, gene_dim: int, hidden: Sequence[int], activation: type[nn.Module]) -> None:
        super().__init__()
        self.obs_dim, self.gene_dim = obs_dim, gene_dim
        self.mlp = _mlp([obs_dim + gene_dim, *hidden], activation)
        self.outputs = [obs_dim + gene_dim, *hidden][-1]

    def traits(self, genes: Tensor) -> Tensor:
        """(K, F) what genes add to the first layer, its bias among it; without layers the genes themselves."""
        if not self.mlp:
            return genes
        first = self.first()
        if not self.gene_dim:
            return first.bias.expand(len(genes), -1)
        return functional.linear(genes, first.weight[:, self.obs_dim :], first.bias)

    def forward(
        self, obs: Tensor, traits: Tensor, state: Tensor, resets: Tensor | None, every_state: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Features of every row; the state is none of it."""
        if not self.mlp:
            return torch.cat([obs, traits.expand(*obs.shape[:-1], -1)], dim=-1), state
        weight = self.first().weight
        weight = weight[:, : self.obs_dim] if self.gene_dim else weight
        return through(islice(self.mlp, 1, None), linear_with(traits, obs, weight)), state

    def first(self) -> nn.Linear:
        """The layer that observation and gene enter."""
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        return first


class LSTMTrunk(Trunk):
    """LSTM -> LayerNorm -> MLP (the paper's network).

    Args:
        obs_dim: I.
        gene_dim: Z.
        units: H.
        hidden: Widths of the MLP's layers.
        activation: Non-linearity behind each.
    """

    def __init__(
        self, obs_dim: int, gene_dim: int, units: int, hidden: Sequence[int], activation: type[nn.Module]
    ) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(obs_dim + gene_dim, units)
        self.norm = nn.LayerNorm(units)
        self.mlp = _mlp([units, *hidden], activation)
        self.outputs = [units, *hidden][-1]

    def traits(self, genes: Tensor) -> Tensor:
        """(K, Z) the genes themselves: inputs of the LSTM."""
        return genes

    def forward(
        self, obs: Tensor, traits: Tensor, state: Tensor, resets: Tensor | None, every_state: bool = False
    ) -> tuple[Tensor, Tensor]:
        """One step, or a sequence."""
        if obs.dim() == 3 and _is_plain(obs):
            each_hidden, each_cell = self._sequence(obs, traits, state, resets)
            new_state = torch.stack([each_hidden, each_cell] if every_state else [each_hidden[-1], each_cell[-1]])
            return through(self.mlp, self.norm(each_hidden)), new_state
        x = torch.cat([obs, traits.expand(*obs.shape[:-1], -1)], dim=-1)
        steps = x if x.dim() == 3 else x[None]
        hidden, cell = state[0], state[1]
        outputs, cells = [], []
        for t, step in enumerate(steps):
            if resets is not None:
                hidden, cell = (part.masked_fill(resets[t, :, None], 0.0) for part in (hidden, cell))
            hidden, cell = self.cell(step, (hidden, cell))
            outputs.append(hidden)
            if every_state:
                cells.append(cell)
        features = torch.stack(outputs) if x.dim() == 3 else hidden
        new_state = torch.stack([features, torch.stack(cells)] if every_state else [hidden, cell])
        return through(self.mlp, self.norm(features)), new_state.to(state.dtype)

    def _sequence(self, obs: Tensor, traits: Tensor, state: Tensor, resets: Tensor | None) -> tuple[Tensor, Tensor]:
        """(T, N, H) each, hidden and cell state after every step; what a gene adds is the same in all of them."""
        cell, known = self.cell, obs.shape[-1]
        gates = linear(obs, cell.weight_ih[:, :known])
        gates = gates + functional.linear(traits, cell.weight_ih[:, known:], cell.bias_ih + cell.bias_hh)
        return lstm_sequence(gates, cell.weight_hh, state[0], state[1], resets)


def _is_plain(obs: Tensor) -> bool:
    """Whether it is computed on a CPU in float32: elsewhere torch has a kernel of its own for the cell."""
    return obs.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _mlp(widths: Sequence[int], activation: type[nn.Module]) -> nn.Sequential:
    """Linear layers with a non-linearity behind each; the first width is the input's."""
    return nn.Sequential(
        *(layer for width, next_width in pairwise(widths) for layer in (nn.Linear(width, next_width), activation()))
    )
