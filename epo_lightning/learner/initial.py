"""What a new network begins with, beyond torch's own initialisation.

Shape legend: O observation, Z gene.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from epo_lightning.learner.networks import LatentActorCritic
from epo_lightning.learner.stacked_networks import StackedActorCritic
from epo_lightning.learner.trunks import MLPTrunk
from epo_lightning.limits import require_range


@dataclass(frozen=True)
class InitialSettings:
    """How a new network's weights are drawn; a network that is restored has its own.

    Args:
        action_gain: Multiplies the weights of the action head: how far the first actions are from 0.
    """

    action_gain: float = 1.0

    def __post_init__(self) -> None:
        require_range("model.initial.action_gain", self.action_gain, 0)


@dataclass(frozen=True)
class GeneInitialSettings(InitialSettings):
    """The same of a network that is told a gene.

    Args:
        fan_in: Range of the first layer's weights: `joint` +-1 / sqrt(O + Z) for all of them, as torch has it; `own`
            +-1 / sqrt(O) for those of the observation and the bias, +-1 / sqrt(Z) for those of the gene, so that a long
            gene does not drown a short observation. An LSTM's do not depend on its inputs.
        gene_gain: Multiplies the gene's weights in the first layer: how much agents differ at the start.
    """

    fan_in: Literal["joint", "own"] = "joint"
    gene_gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("model.initial.gene_gain", self.gene_gain, 0)


@torch.no_grad()
def scale_first_actions(policy: LatentActorCritic | StackedActorCritic, settings: InitialSettings) -> None:
    """Change the action head of a new `policy` as `settings` say; by default, not at all."""
    policy.action_head.weight.mul_(settings.action_gain)


@torch.no_grad()
def begin_with(policy: LatentActorCritic, settings: GeneInitialSettings) -> None:
    """Change the weights of a new `policy` as `settings` say; by default, not at all."""
    for trunk in (policy.actor, policy.critic):
        if isinstance(trunk, MLPTrunk) and trunk.mlp:
            first, obs_dim, gene_dim = trunk.first(), trunk.obs_dim, trunk.gene_dim
            of_obs, of_gene = first.weight[:, :obs_dim], first.weight[:, obs_dim:]
            if settings.fan_in == "own" and gene_dim:
                joint = math.sqrt(obs_dim + gene_dim)  # what is uniform stays so
                of_obs.mul_(joint / math.sqrt(obs_dim))
                first.bias.mul_(joint / math.sqrt(obs_dim))
                of_gene.mul_(joint / math.sqrt(gene_dim))
            of_gene.mul_(settings.gene_gain)
    scale_first_actions(policy, settings)
