"""Which agent acts like that: a classifier of the agents by observation and action.

Shape legend: O observation, A action entries or choices, K agents.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class AgentClassifier(nn.Module):
    """q(k | s, a).

    Args:
        obs_dim: O.
        act_dim: A.
        num_agents: K.
        hidden: Widths of its layers.
        discrete: The action is one of A choices instead of A numbers.
    """

    def __init__(self, obs_dim: int, act_dim: int, num_agents: int, hidden: tuple[int, ...], discrete: bool) -> None:
        super().__init__()
        self.choices = act_dim if discrete else 0
        widths = (obs_dim + act_dim, *hidden)
        layers = [layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ELU())]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], num_agents))

    def forward(self, obs: Tensor, actions: Tensor) -> Tensor:
        """(..., K) log q.

        Args:
            obs: (..., O) normalised observations.
            actions: (..., A) the policy's unclipped samples; (..., 1) numbers of choices.
        """
        if self.choices:
            actions = functional.one_hot(actions.squeeze(-1).long(), self.choices).to(obs.dtype)
        else:
            actions = actions.clamp(-1.0, 1.0)  # what the environment takes: nobody is told apart by more
        logits: Tensor = self.mlp(torch.cat([obs, actions], dim=-1))
        return logits.log_softmax(-1)
