"""A small population whose agents have networks of their own."""

from typing import Any

import torch

from epo_lightning.experience.settings import OnPolicySettings
from epo_lightning.learner.actor_critic import ActorCriticSettings
from epo_lightning.modules.pbt import PBTModule


def apart(num_agents: int = 8, **changes: Any) -> PBTModule:
    """Tiny networks, rollouts of four steps."""
    torch.manual_seed(0)
    short = OnPolicySettings(horizon=4, num_epochs=1, num_minibatches=2)
    return PBTModule(num_agents, ActorCriticSettings(hidden=(8,)), rollout=short, **changes)
