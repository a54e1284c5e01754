"""How long an iteration of paper size would take on a CPU, estimated before it is tried.

Shape legend: N environments, T horizon, B probe rows.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from epo_lightning.envs.contract import check_first, check_result
from epo_lightning.experience.buffer import RolloutShape
from epo_lightning.experience.streams import Stream
from epo_lightning.experience.world import World
from epo_lightning.learner.actor_critic import ActorCritic

_PROBE_ENVS = 64
_PROBE_STEPS = 4
_PROBE_ROWS = 256
_LARGE = 2e12
"""FLOPs of an iteration from which a CPU needs long enough to be warned of: ten seconds of two cores."""


class IterationEstimate(NamedTuple):
    """Seconds that one iteration spends in the environments and in the network."""

    env: float
    network: float

    @property
    def total(self) -> float:
        """Both."""
        return self.env + self.network


def is_large(policy: ActorCritic, shape: RolloutShape, num_epochs: int) -> bool:
    """Whether an iteration has so many FLOPs, at 2 a parameter and pass, that a CPU will be slow."""
    return 6.0 * policy.parameters_per_row * shape.columns * shape.horizon * num_epochs > _LARGE


def estimate_iteration(
    world: World,
    policy: ActorCritic,
    shape: RolloutShape,
    num_epochs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> IterationEstimate:
    """Time a few steps of a few environments and one small forward and backward pass, and scale them up.

    Args:
        world: Makes the environments.
        policy: The network.
        shape: Sizes of the real rollout.
        num_epochs: Passes over the data.
        clock: Tells the time in seconds.
    """
    assert world.build is not None
    env = world.build(_PROBE_ENVS, world.stream_seed(Stream.ESTIMATE))
    check_first(env.reset(), env.spec, world.device)
    actions = env.spec.zero_actions()
    check_result(env.step(actions), env.spec, world.device)
    start = clock()
    for _ in range(_PROBE_STEPS):
        env.step(actions)
    env_step = (clock() - start) / (_PROBE_STEPS * _PROBE_ENVS)
    env.close()
    samples = shape.columns * shape.horizon
    # a forward pass to act, a forward and backward pass (three times its FLOPs) for every use of a sample
    passes = samples * (1 / 3 + num_epochs) / (_probe_rows(policy) * shape.horizon)
    return IterationEstimate(
        env=env_step * shape.population.num_envs * shape.horizon, network=passes * _learning_pass(policy, shape, clock)
    )


def _learning_pass(policy: ActorCritic, shape: RolloutShape, clock: Callable[[], float]) -> float:
    """Seconds of a forward and backward pass over B sequences, or B x T single steps, of all agents alike."""
    rows = _probe_rows(policy) * (1 if policy.recurrent else shape.horizon)
    agents = torch.arange(policy.num_agents).repeat_interleave(rows // policy.num_agents)
    steps = (shape.horizon,) if policy.recurrent else ()
    obs = torch.zeros(*steps, len(agents), shape.obs_dim)
    seconds = []
    for _ in range(2):  # the first one warms up
        start = clock()
        output = policy(obs, policy.express(agents), policy.initial_state(len(agents)))
        torch.autograd.grad(output.actions[0].sum() + output.value.sum(), list(policy.actor.parameters()))
        seconds.append(clock() - start)
    return seconds[-1]


def _probe_rows(policy: ActorCritic) -> int:
    """B: as many for every agent."""
    return -(-_PROBE_ROWS // policy.num_agents) * policy.num_agents
