"""Actors that share no weight, as a file keeps them: one of them, or all with an input that says who acts.

Shape legend: K agents, A of them in the file, N rows, O observation entries, H LSTM units.
"""

import torch
from torch import Tensor, nn

from epo_lightning.learner.normalization import Normalizer
from epo_lightning.learner.stacked import some_of, through
from epo_lightning.learner.standalone import AGENT, Standalone, Who, lstm_memory


class StackedStandalone(Standalone):
    """Where everybody is in the file, `agent` (1,) int64 says who acts in all rows.

    Args:
        normalizer: Of the raw observations; `mean` and `scale` are (O,), or (K, 1, O) where each has its own.
        agent: Who acts where nobody is named.
        count: K, or None where the file holds this agent alone.
        discrete: The action is a choice.
        units: H; 0 without an LSTM.
    """

    def __init__(
        self, normalizer: Normalizer, agent: int, count: int | None, *, discrete: bool = False, units: int = 0
    ) -> None:
        mean, scale, clip = normalizer
        if mean.dim() > 1:
            mean, scale = mean.squeeze(1), scale.squeeze(1)
            if count is None:
                mean, scale = mean[agent], scale[agent]
        who = None if count is None else Who(AGENT, torch.arange(count), agent)
        super().__init__(Normalizer(mean, scale, clip), discrete=discrete, who=who, memory=lstm_memory(units))
        self._has_own_moments = mean.dim() > 1

    def normalized(self, observation: Tensor, who: Tensor | None) -> Tensor:
        """(N, O) of raw observations."""
        if who is None or not self._has_own_moments:
            return super().normalized(observation, who)
        return self.clipped((observation - self.mean.index_select(0, who)) * self.scale.index_select(0, who))


class StackedTrunkAndHead(StackedStandalone):
    """Actors of `StackedActorCritic`.

    Args:
        normalizer: See `StackedStandalone`.
        agent: See `StackedStandalone`.
        count: See `StackedStandalone`.
        trunk: Of all K.
        head: Of all K.
        discrete: See `StackedStandalone`.
        units: See `StackedStandalone`.
    """

    def __init__(
        self,
        normalizer: Normalizer,
        agent: int,
        count: int | None,
        trunk: nn.Module,
        head: nn.Module,
        *,
        discrete: bool,
        units: int,
    ) -> None:
        super().__init__(normalizer, agent, count, discrete=discrete, units=units)
        kept = _kept(trunk, agent, count)
        self.trunk, self.head = some_of(trunk, kept), some_of(head, kept)

    def decide(self, obs: Tensor, who: Tensor | None, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Standalone.decide`."""
        state = torch.stack(memory).unsqueeze(1) if memory else obs.new_zeros(0)
        features, state = self.trunk(obs.unsqueeze(0), state, None, who)
        head = self.head(features, who).squeeze(0).float()
        return head, (state[0].squeeze(0), state[1].squeeze(0)) if memory else ()


class StackedMLP(StackedStandalone):
    """Actors of `StackedActor`, squashed by tanh.

    Args:
        normalizer: See `StackedStandalone`.
        agent: See `StackedStandalone`.
        count: See `StackedStandalone`.
        mlp: Of all K.
    """

    def __init__(self, normalizer: Normalizer, agent: int, count: int | None, mlp: nn.Sequential) -> None:
        super().__init__(normalizer, agent, count)
        self.mlp = some_of(mlp, _kept(mlp, agent, count))

    def decide(self, obs: Tensor, who: Tensor | None, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `Standalone.decide`."""
        return through(self.mlp, obs.unsqueeze(0), who).squeeze(0).float().tanh(), memory


def _kept(module: nn.Module, agent: int, count: int | None) -> Tensor:
    """(A,) whose weights go into the file."""
    device = next(module.parameters()).device
    return torch.tensor([agent], device=device) if count is None else torch.arange(count, device=device)
