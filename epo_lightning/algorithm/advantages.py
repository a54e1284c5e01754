"""Critic targets from a rollout; pure functions.

Shape legend: T horizon, N environments; every tensor is (T, N).

All estimators read `next_values`: the value of the state that follows step t in the same episode. `bootstrap_values`
builds it, and is the only place where terminated and truncated episodes differ.
"""

import torch
from torch import Tensor


def bootstrap_values(values: Tensor, final_values: Tensor, terminated: Tensor, truncated: Tensor) -> Tensor:
    """Value of the state that follows each step, (T, N).

    Args:
        values: (T + 1, N) V(s_t); the last row belongs to the state after the rollout.
        final_values: (T, N) V(final_obs), read only where `truncated`.
        terminated: (T, N) bool; the value of what follows is 0.
        truncated: (T, N) bool; the episode goes on unseen, its value is that of the final observation.
    """
    following = torch.where(truncated, final_values, values[1:])
    return following.masked_fill(terminated, 0.0)


def gae_targets(
    rewards: Tensor, values: Tensor, next_values: Tensor, done: Tensor, gamma: float | Tensor, gae_lambda: float
) -> Tensor:
    """Lambda-returns: V(s_t) plus the generalised advantage estimate (arXiv 1506.02438, eq. 16).

    Args:
        rewards: (T, N).
        values: (T, N) V(s_t).
        next_values: (T, N), see `bootstrap_values`.
        done: (T, N) bool, terminated or truncated: nothing is carried over the end of an episode.
        gamma: Discount; (N,) where every environment has its own.
        gae_lambda: 0 gives one-step targets, 1 the full return.
    """
    # delta_t = r_t + gamma V(s_t+1) - V(s_t)
    deltas = rewards + gamma * next_values - values
    # A_t = delta_t + gamma lambda (1 - done_t) A_t+1
    carry = gamma * gae_lambda * (~done).to(deltas.dtype)
    advantages = torch.empty_like(deltas)
    following = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        following = torch.addcmul(deltas[t], carry[t], following, out=advantages[t])
    return advantages + values


def n_step_targets(rewards: Tensor, next_values: Tensor, done: Tensor, gamma: float | Tensor, n: int) -> Tensor:
    """sum_{i<n} gamma^i r_t+i + gamma^n V(s_t+n), cut at the ends of episodes and of the rollout (EPO eq. 6).

    Args:
        rewards: (T, N).
        next_values: (T, N), see `bootstrap_values`.
        done: (T, N) bool.
        gamma: Discount; (N,) where every environment has its own.
        n: Steps to look ahead, at least 1.
    """
    targets = one_step_targets(rewards, next_values, gamma)
    for _ in range(n - 1):
        # G^(m)_t = r_t + gamma G^(m-1)_t+1, or the bootstrap where there is no step t+1
        ahead = torch.where(done[:-1], next_values[:-1], targets[1:])
        targets = rewards + gamma * torch.cat([ahead, next_values[-1:]])
    return targets


def one_step_targets(rewards: Tensor, next_values: Tensor, gamma: float | Tensor) -> Tensor:
    """r_t + gamma V(s_t+1): the master's off-policy target (EPO eq. 8)."""
    return rewards + gamma * next_values
