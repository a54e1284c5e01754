"""What rollouts will take, told before the first one: memory, and time where a CPU will need long."""

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from epo_lightning.algorithm.population import Population
from epo_lightning.experience.buffer import RolloutBuffer, RolloutShape
from epo_lightning.experience.estimate import estimate_iteration, is_large
from epo_lightning.experience.world import World
from epo_lightning.learner.actor_critic import ActorCritic


def tell_cost(world: World, policy: ActorCritic, shape: RolloutShape, passes: int, remedy: str) -> None:
    """Print it.

    Args:
        world: The environments.
        policy: The network that acts and learns.
        shape: Of a rollout.
        passes: How often a sample goes through the network to be learned from.
        remedy: What makes a run that a CPU can make, in words.
    """
    envs, ranks = shape.population.num_envs, world.world_size
    rank_zero_info(
        f"Rollout memory: {RolloutBuffer.nbytes(shape) / 2**20:.0f} MiB per rank for {envs} envs x {shape.horizon}"
        f" steps; {envs * ranks} envs on {ranks} rank(s), {_dealt(shape.population)} and rank"
    )
    if world.device.type == "cpu" and is_large(policy, shape, passes):
        estimate = estimate_iteration(world, policy, shape, passes)
        rank_zero_warn(
            f"this run is made for a GPU: on this CPU an iteration will take about {estimate.total:.0f} s"
            f" ({estimate.env:.0f} s environments, {estimate.network:.0f} s network); for a run that a CPU can make"
            f" {remedy}"
        )


def _dealt(population: Population) -> str:
    own, others = population.master_envs, population.envs_per_follower
    return f"{own} envs for the master, {others} per follower" if 0 < others != own else f"{own} envs per agent"
