"""The reward for being told apart, of one rollout after the other: first it is given, then the classifier learns.

Shape legend: N environments, T horizon, K agents.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from epo_lightning.algorithm.diversity import DiversitySettings, diversity_bonus
from epo_lightning.algorithm.population import MASTER
from epo_lightning.envs.base import EnvSpec
from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.ranks import average_over_ranks
from epo_lightning.learner.classifier import AgentClassifier
from epo_lightning.learner.observations import refuse_images


class Diversity:
    """A classifier of the agents, and what it thinks of a rollout.

    It runs in float32 whatever the precision of the policy, and is the same on every rank.

    Args:
        spec: Of the environments.
        num_agents: K.
        settings: See `DiversitySettings`.
        device: Where the rollouts lie.
        seed: Of its initial weights; the same on every rank.
    """

    def __init__(
        self, spec: EnvSpec, num_agents: int, settings: DiversitySettings, device: torch.device, seed: int
    ) -> None:
        refuse_images(spec.groups, "model.diversity.coefficient", "set it to 0")
        self.settings, self.device = settings, device
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            classifier = AgentClassifier(spec.obs_dim, spec.act_dim, num_agents, settings.hidden, spec.discrete)
        self.classifier = classifier.to(device)
        self.parameters = [*self.classifier.parameters()]
        self._adam = torch.optim.Adam(self.parameters, settings.learning_rate, fused=True)

    @torch.no_grad()
    def log_probs(self, buffer: RolloutBuffer) -> Tensor:
        """(T, N, K) log q of what every agent did; the observations are normalised already."""
        envs, horizon = buffer.envs, buffer.shape.horizon
        # a step at a time: hidden layers that are wide would not fit for a whole rollout
        return torch.stack([self.classifier(buffer.obs[t, :envs], buffer.actions[t, :envs]) for t in range(horizon)])

    def bonus(self, log_probs: Tensor, agents: Tensor) -> Tensor:
        """(T, C) on top of the scaled rewards, for the agents (C,) that learn from each of the C columns."""
        return diversity_bonus(log_probs, agents.expand(log_probs.shape[:-1]), self.settings.coefficient)

    def tell(self, log_probs: Tensor, bonus: Tensor, agents: Tensor) -> dict[str, Tensor]:
        """Scalars for the log: how well the agents are told apart before this rollout is learnt from.

        Args:
            log_probs: (T, N, K).
            bonus: (T, N).
            agents: (N,) who acted.
        """
        right = (log_probs.argmax(-1) == agents).float()
        own = log_probs.gather(-1, agents.expand(right.shape)[..., None])
        return {
            "losses/diversity_accuracy": right.mean(),
            "losses/diversity_loss": -own.mean(),
            "losses/diversity_bonus": bonus[:, agents != MASTER].mean(),
        }

    @torch.enable_grad()
    def learn(self, buffer: RolloutBuffer, generator: torch.Generator) -> None:
        """One pass over the agents' own samples; with several ranks collective calls."""
        envs, agents = buffer.envs, buffer.column_agents
        samples = torch.randperm(buffer.shape.horizon * envs, generator=generator, device=self.device)
        for numbers in samples.tensor_split(min(self.settings.num_minibatches, len(samples))):
            step, env = numbers // envs, numbers % envs
            loss = functional.nll_loss(self.classifier(buffer.obs[step, env], buffer.actions[step, env]), agents[env])
            gradients = torch.autograd.grad(loss, self.parameters)
            gradients = tuple(average_over_ranks(gradients))
            for parameter, gradient in zip(self.parameters, gradients, strict=True):
                parameter.grad = gradient
            self._adam.step()

    def saved(self) -> dict[str, Any]:
        """What the next iteration depends on."""
        return {"weights": self.classifier.state_dict(), "optimizer": self._adam.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`; a classifier of other widths begins anew."""
        shapes = {name: value.shape for name, value in self.classifier.state_dict().items()}
        if shapes != {name: value.shape for name, value in state["weights"].items()}:
            return
        self.classifier.load_state_dict(state["weights"])
        self._adam.load_state_dict(state["optimizer"])
        for group in self._adam.param_groups:
            group["lr"] = self.settings.learning_rate
