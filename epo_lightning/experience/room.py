"""Whether a training on policy has room on its device: estimated before the first rollout.

Shape legend: K agents, O observation, A stored action, T horizon, W columns of the buffer.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.learner.actor_critic import ActorCritic
from epo_lightning.learner.memory import free_memory
from epo_lightning.limits import Mistake

_USABLE = 0.95
"""Share of the free memory that may be used: allocators need some for themselves."""
_PASSING = 1.3
"""What a backward pass takes, in units of what the forward pass has kept for it."""
_TRIED = 4
"""Steps of a sequence in which it is measured what a forward pass keeps."""
_FLOAT = 4
"""Bytes."""


class Room(NamedTuple):
    """Bytes on one device.

    Attributes:
        buffer: The rollout. update: A minibatch and what its gradient needs. Both are proportional to the environments.
        optimizer: Gradients and both moments of Adam.
    """

    buffer: int
    update: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def room_for(policy: ActorCritic, shape: RolloutShape, minibatches: int) -> Room:
    """What a rollout and its update take, beside the network itself and the environments.

    Args:
        policy: The network, on its device.
        shape: Of the rollout.
        minibatches: Of a pass.
    """
    samples = shape.columns * shape.horizon / minibatches
    gathered = _FLOAT * (shape.obs_dim + shape.action_dim + 6)
    each = gathered + _PASSING * kept_bytes(policy, shape)
    relabelled = shape.columns - shape.population.num_envs  # both observations of each, seen by another agent at once
    seen = 2 * relabelled * shape.horizon * _FLOAT * (shape.obs_dim + 2 * max(policy.settings.widths, default=0))
    parameters = sum(parameter.numel() for parameter in policy.parameters() if parameter.requires_grad)
    update = max(samples * each * (2 if shape.mirrored else 1), seen)
    return Room(RolloutBuffer.nbytes(shape), round(update), 3 * _FLOAT * parameters)


def kept_bytes(policy: ActorCritic, shape: RolloutShape) -> float:
    """Bytes that a forward pass keeps of each sample for the backward pass: measured of few rows, and twice as many."""
    few, many = (_kept(policy, shape, rows * policy.num_agents) for rows in (1, 2))
    return (many - few) / (policy.num_agents * _steps(shape))


def _kept(policy: ActorCritic, shape: RolloutShape, rows: int) -> int:
    device = policy.log_std.device
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a result that its own node keeps would keep the node: neither would ever be freed

    agents = torch.arange(policy.num_agents, device=device).repeat_interleave(rows // policy.num_agents)
    steps = (_steps(shape),) if shape.recurrent else ()
    obs = torch.zeros(*steps, rows, shape.obs_dim, device=device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = policy(obs, policy.express(agents), policy.initial_state(rows, device))
        kept[-1] = output.value.nbytes + sum(part.nbytes for part in output.actions)
    return sum(kept.values())


def _steps(shape: RolloutShape) -> int:
    """Of a sequence that is tried."""
    return min(shape.steps_per_unit, _TRIED)


def require_room(room: Room, shape: RolloutShape, minibatches: int, device: torch.device) -> str:
    """Refuse a training that does not fit.

    Args:
        room: See `room_for`.
        shape: Of the rollout.
        minibatches: Of a pass.
        device: Of this rank.

    Returns:
        What is needed and what is free, for the log.

    Raises:
        Mistake: With the amounts, the largest number of environments that fits, and what else could be changed.
    """
    free = free_memory(device)
    parts = (
        f"rollout buffer {_mib(room.buffer)}, update {_mib(room.update)}, gradients and Adam {_mib(room.optimizer)};"
        " the environments have theirs already"
    )
    told = f"{_mib(room.total)} on {device}, where {_mib(free)} are free ({parts})"
    if room.total <= _USABLE * free:
        return told
    envs, agents = shape.population.num_envs, shape.population.num_agents
    share = (_USABLE * free - room.optimizer) / (room.buffer + room.update)
    largest = int(max(share, 0.0) * envs) // agents * agents
    first = f"lower it to at most {largest}" if largest else f"not even {agents} fit"
    raise Mistake(
        f"data.num_envs {envs} needs {told}: {first}, or raise model.rollout.num_minibatches {minibatches}, or lower"
        f" model.rollout.horizon {shape.horizon} or the network"
    )


def _mib(nbytes: float) -> str:
    return f"{nbytes / 2**20:,.0f} MiB"
