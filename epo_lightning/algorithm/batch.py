"""One minibatch as the losses see it.

Shape legend: B samples, T horizon, O observation, A action, S state tensors, H LSTM units. Every field marked `...` is
(B, ...) for a feed-forward network and (T, B, ...) for an LSTM, whose samples are whole sequences.
"""

from typing import NamedTuple

from torch import Tensor

from epo_lightning.algorithm.population import MASTER


class RolloutBatch(NamedTuple):
    """On-policy samples of all agents and samples relabelled for another agent, shuffled together.

    Attributes:
        obs: (..., O) normalised observations.
        actions: (..., A) the policy's unclipped samples; (..., 1) numbers of the choices of a discrete task.
        agent_ids: (B,) int64, the agent whose gene evaluates the sample.
        log_probs: (...,) log pi_old(a|s, phi_j) of the agent j that acted.
        log_mu: (...,) log pi_old(a|s, phi_agent) - log pi_old(a|s, phi_j); 0 for on-policy samples (EPO eq. 4).
        values: (...,) normalised V_old(s, phi_agent).
        targets: (...,) normalised critic targets.
        advantages: (...,) normalised over the pooled set.
        off_policy: (B,) bool, the sample was relabelled: a follower's for the master, or the master's for a follower.
        states: (S, B, H) recurrent state before the first step; S = 0 for a feed-forward network.
        resets: (T, B) bool, an episode starts at this step; (B,) and unused for a feed-forward network.
    """

    obs: Tensor
    actions: Tensor
    agent_ids: Tensor
    log_probs: Tensor
    log_mu: Tensor
    values: Tensor
    targets: Tensor
    advantages: Tensor
    off_policy: Tensor
    states: Tensor
    resets: Tensor

    def coupled(self) -> Tensor:
        """(B,) bool: the master acted, and a follower that is coupled to it learns from it."""
        return self.off_policy & (self.agent_ids != MASTER)
