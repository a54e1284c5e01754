"""How data is collected and used: the options of a rollout."""

from dataclasses import dataclass
from typing import Literal

from epo_lightning.algorithm.aggregation import OffPolicySource
from epo_lightning.limits import require_range

_KEY = "model.rollout"


@dataclass(frozen=True)
class RolloutSettings:
    """How data is collected, what the critic's targets are, and how often each sample is used.

    Args:
        horizon: T, env steps that every environment makes per iteration.
        num_epochs: Passes over the pooled samples per iteration.
        num_minibatches: Minibatches per pass, each one optimizer step.
        gamma: Discount.
        gae_lambda: Lambda of the generalised advantage estimate.
        estimator: Targets of on-policy samples: `gae` (lambda-returns) or `n_step` (EPO eq. 6).
        n_step: Steps of the `n_step` estimator, at most `horizon`.
        reward_scale: Rewards are multiplied by this before the critic sees them; reported returns are not.
        off_policy_ratio: Followers' samples relabelled for the master, as a multiple of the master's own, rounded to
            whole environments; 0 for none.
        off_policy_source: `all` samples from every follower, `one_agent` from one random follower per iteration.
        mu_cap: Upper bound of the importance weight mu with which an off-policy sample starts; inf for none.
        coupling_followers: Where followers are coupled to the master (`model.loss.coupling_coefficient`): how many,
            drawn anew in every iteration, learn from each of its environments; all where there are fewer.
    """

    horizon: int = 16
    num_epochs: int = 4
    num_minibatches: int = 4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    estimator: Literal["gae", "n_step"] = "gae"
    n_step: int = 3
    reward_scale: float = 1.0
    off_policy_ratio: float = 1.0
    off_policy_source: OffPolicySource = "all"
    mu_cap: float = float("inf")
    coupling_followers: int = 5

    def __post_init__(self) -> None:
        for name in ("horizon", "num_epochs", "num_minibatches", "n_step", "coupling_followers"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 1)
        if self.estimator == "n_step":
            require_range(
                f"{_KEY}.n_step (no sample looks further ahead than the horizon)", self.n_step, 1, self.horizon
            )
        for name in ("gamma", "gae_lambda"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 0, 1)
        for name in ("reward_scale", "mu_cap"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 0, open_low=True)
        require_range(f"{_KEY}.off_policy_ratio", self.off_policy_ratio, 0)
