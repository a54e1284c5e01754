"""What a policy sees and does in its own task, step by step, as `play` shows it.

Shape legend: T steps, M agents that play side by side, P observation entries that actors see, A action
entries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.contract import check_first, check_result, check_spec, refuse_unsound, sound
from epo_lightning.learner.policy import Policy


class Recording(NamedTuple):
    """T steps of M agents, one in each environment.

    Attributes:
        agents: M numbers.
        obs: (T, M, P) float32 raw observations, what actors see of them.
        actions: (T, M, A) float32, or (T, M) int64 choices.
        done: (T, M) bool, the episode ended with this step.
    """

    agents: tuple[int, ...]
    obs: Tensor
    actions: Tensor
    done: Tensor

    @property
    def episodes(self) -> int:
        """That have ended."""
        return int(self.done.sum())


@torch.no_grad()
def record(env: VectorEnv, policy: Policy, agents: Sequence[int], steps: int) -> Recording:
    """Let agents play by their likeliest actions.

    Args:
        env: M environments, on any device.
        policy: The network, on the CPU: float32 without the shortcuts that accelerators take.
        agents: Who plays in which.
        steps: T.

    Raises:
        Mistake: When the environment breaks its contract.
    """
    spec = check_spec(env)
    acting, state = torch.tensor(agents), policy.initial_state(len(agents))
    obs = env.reset()
    check_first(obs, spec, None)
    device, bad = obs.device, torch.zeros(len(agents), dtype=torch.bool, device=obs.device)
    seen, done = [], []
    for _ in range(steps):
        observed = obs.to("cpu", copy=True)
        actions, state = policy.act(observed, acting, state)
        seen.append((observed[:, : spec.seen], actions))
        result = env.step(actions.to(device))
        check_result(result, spec, device)
        bad |= ~sound(result)
        ended = (result.terminated | result.truncated).cpu()
        state = state.masked_fill(ended[:, None], 0.0)
        done.append(ended)
        obs = result.obs
    refuse_unsound(spec, bad)
    observed, actions = (torch.stack(each) for each in zip(*seen, strict=True))
    return Recording(tuple(agents), observed, actions, torch.stack(done))
