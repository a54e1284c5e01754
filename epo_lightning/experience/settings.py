"""How data is collected and used: the options of a rollout."""

from dataclasses import dataclass
from typing import Literal

from epo_lightning.algorithm.aggregation import OffPolicySource
from epo_lightning.limits import Mistake, require_range

_KEY = "model.rollout"


@dataclass(frozen=True)
class OnPolicySettings:
    """How data is collected, what the critic's targets are, and how often each sample is used.

    Args:
        horizon: T, env steps that every environment makes per iteration.
        num_epochs: Passes over the pooled samples per iteration.
        num_minibatches: Minibatches per pass, each one optimizer step; 4 where `minibatch_size` is not given either.
        minibatch_size: Samples of a minibatch on every rank, instead of their number: that then grows with environments
            and horizon. It divides the samples of an iteration, the relabelled ones included.
        staggered_starts: Environments begin at different points of their time limit, evenly spread over those of an
            agent, so that their episodes do not all end in the same step; a first episode that is shorter for it is
            learned from and not counted. Takes effect when episodes begin together: at the start of a training.
        gamma: Discount.
        gae_lambda: Lambda of the generalised advantage estimate.
        estimator: Targets of on-policy samples: `gae` (lambda-returns) or `n_step` (EPO eq. 6).
        n_step: Steps of the `n_step` estimator, at most `horizon`.
        reward_scale: Rewards are multiplied by this before the critic sees them; reported returns are not.
        noise_correlation: Of the exploration noise from one step to the next in an episode and a rollout, which carries
            further; the ratios of the losses stay those of single steps (as in colored-noise PPO, arXiv 2312.11091).
        correlated_share: Of each agent's environments that have such noise; the others draw theirs anew in every step.
        symmetry: Also learn from the mirror image of every sample, where the task is symmetric: its environment then
            tells how observations and actions are mirrored. Learning takes twice as long.
    """

    horizon: int = 16
    num_epochs: int = 4
    num_minibatches: int | None = None
    minibatch_size: int | None = None
    staggered_starts: bool = False
    gamma: float = 0.99
    gae_lambda: float = 0.95
    estimator: Literal["gae", "n_step"] = "gae"
    n_step: int = 3
    reward_scale: float = 1.0
    noise_correlation: float = 0.0
    correlated_share: float = 1.0
    symmetry: bool = False

    def __post_init__(self) -> None:
        for name in ("horizon", "num_epochs", "num_minibatches", "minibatch_size", "n_step"):
            if getattr(self, name) is not None:
                require_range(f"{_KEY}.{name}", getattr(self, name), 1)
        if self.num_minibatches is not None and self.minibatch_size is not None:
            raise Mistake(
                f"{_KEY}.num_minibatches {self.num_minibatches} and {_KEY}.minibatch_size {self.minibatch_size} say the"
                " same thing twice: set one of them to null"
            )
        if self.estimator == "n_step":
            require_range(
                f"{_KEY}.n_step (no sample looks further ahead than the horizon)", self.n_step, 1, self.horizon
            )
        for name in ("gamma", "gae_lambda"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 0, 1)
        require_range(f"{_KEY}.reward_scale", self.reward_scale, 0, open_low=True)
        for name in ("noise_correlation", "correlated_share"):
            require_range(f"{_KEY}.{name}", getattr(self, name), 0, 1)

    @property
    def passes(self) -> int:
        """How often a sample goes through the network to be learned from, as itself or as its image, in an epoch."""
        return 1 + self.symmetry

    def minibatches(self, units: int, samples_per_unit: int) -> int:
        """Minibatches of a pass.

        Args:
            units: What is shuffled in an iteration of a rank: samples, or sequences.
            samples_per_unit: Length of a sequence; 1 where units are samples.

        Raises:
            Mistake: When there are fewer units, or they cannot be divided into minibatches of that size.
        """
        kind = "samples" if samples_per_unit == 1 else "sequences"
        if self.minibatch_size is None:
            count = 4 if self.num_minibatches is None else self.num_minibatches
            if count > units:
                raise Mistake(
                    f"{_KEY}.num_minibatches must be at most {units}, the number of {kind} of an iteration; got {count}"
                )
            return count
        samples = units * samples_per_unit
        if samples % self.minibatch_size or self.minibatch_size % samples_per_unit:
            whole = "" if samples_per_unit == 1 else f" in whole {kind} of {samples_per_unit}"
            sizes = _sizes_near(self.minibatch_size // samples_per_unit, units)
            near = " or ".join(str(size * samples_per_unit) for size in sizes)
            raise Mistake(
                f"{_KEY}.minibatch_size must divide the {samples} samples of an iteration and rank{whole}: use e.g."
                f" {near}; got {self.minibatch_size}"
            )
        return samples // self.minibatch_size


@dataclass(frozen=True)
class RolloutSettings(OnPolicySettings):
    """The same where agents learn from each other's data, too.

    Args:
        master_share: Share of the environments that is the master's, as nearly as the followers have equally many; null
            for as many as every follower has.
        off_policy_ratio: Followers' samples relabelled for the master, as a multiple of the master's own, rounded to
            whole environments; 0 for none.
        off_policy_source: `all` samples from every follower, `one_agent` from one random follower per iteration.
        mu_cap: Upper bound of the importance weight mu with which an off-policy sample starts; inf for none.
        coupling_followers: Where followers are coupled to the master (`model.loss.coupling_coefficient`): how many,
            drawn anew in every iteration, learn from each of its environments; all where there are fewer.
    """

    master_share: float | None = None
    off_policy_ratio: float = 1.0
    off_policy_source: OffPolicySource = "all"
    mu_cap: float = float("inf")
    coupling_followers: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.master_share is not None:
            require_range(f"{_KEY}.master_share", self.master_share, 0, 1, open_low=True)
        require_range(f"{_KEY}.off_policy_ratio", self.off_policy_ratio, 0)
        require_range(f"{_KEY}.mu_cap", self.mu_cap, 0, open_low=True)
        require_range(f"{_KEY}.coupling_followers", self.coupling_followers, 1)


def _sizes_near(wanted: int, units: int) -> list[int]:
    """The divisors of `units` next to `wanted` from below and from above, as far as there are any."""
    divisors = [size for size in range(1, units + 1) if not units % size]
    return [*[size for size in divisors if size <= wanted][-1:], *[size for size in divisors if size > wanted][:1]]
