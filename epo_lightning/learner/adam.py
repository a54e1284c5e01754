"""Adam for critics that stay and actors that do not outlive their generation."""

from dataclasses import dataclass

from epo_lightning.limits import require_range


@dataclass(frozen=True)
class CEMOptimizerSettings:
    """Step sizes of Adam, and how often it steps.

    S is the number of env steps that the members made in the last generation, over all ranks.

    Args:
        actor_learning_rate: Of the members that learn by gradient.
        critic_learning_rate: Of the two critics.
        critic_updates_per_env_step: The critics make S times this many updates a generation, the same number against
            each member that learns by gradient.
        actor_updates_per_env_step: Each of these members makes S times this many, from an optimizer of its own that
            knows nothing of earlier generations.
        max_grad_norm: Gradients of the critics are scaled down to this norm; inf for never.
    """

    actor_learning_rate: float = 1e-3
    critic_learning_rate: float = 1e-3
    critic_updates_per_env_step: float = 1.0
    actor_updates_per_env_step: float = 1.0
    max_grad_norm: float = float("inf")

    def __post_init__(self) -> None:
        key = "model.optimizer"
        for name in ("actor_learning_rate", "critic_learning_rate", "max_grad_norm"):
            require_range(f"{key}.{name}", getattr(self, name), 0, open_low=True)
        for name in ("critic_updates_per_env_step", "actor_updates_per_env_step"):
            require_range(f"{key}.{name}", getattr(self, name), 0)
