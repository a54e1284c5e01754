"""What a network says in a step of a rollout, as a CUDA graph."""

from collections.abc import Callable

from torch import Tensor

from epo_lightning.learner.actor_critic import Expression, PolicyOutput
from epo_lightning.learner.cuda_graph import Recorded, Tensors
from epo_lightning.learner.normalization import Normalizer

Ask = Callable[[Normalizer, Tensor, Expression, Tensor], PolicyOutput]


class RecordedPolicy:
    """What `ask` says of the rows of a rollout, without a gradient; called as `ask` is.

    Args:
        ask: Of a normaliser, raw observations (N, O), what makes the agents differ, and the recurrent state.
        recorded: Makes the graph of a function with a name.
    """

    def __init__(self, ask: Ask, recorded: Callable[..., Recorded] = Recorded) -> None:
        self._ask = ask
        self._recorded = recorded(self._say, "the network's part of a rollout")
        self._kind: Callable[..., object] | None = None
        self._clip: float | None = None

    def __call__(self, normalize: Normalizer, obs: Tensor, rows: Expression, state: Tensor) -> PolicyOutput:
        """See `ActorCritic.forward`."""
        self._clip = normalize.clip
        traits = (rows.actor,) if rows.critic is None else (rows.actor, rows.critic)
        *actions, value, new_state = self._recorded(obs, normalize.mean, normalize.scale, state, rows.log_std, *traits)
        assert self._kind is not None
        return PolicyOutput(self._kind(*actions), value, new_state)  # type: ignore[arg-type]

    def _say(
        self, obs: Tensor, mean: Tensor, scale: Tensor, state: Tensor, log_std: Tensor, *traits: Tensor
    ) -> Tensors:
        rows = Expression(traits[0], traits[1] if len(traits) > 1 else None, log_std)
        output = self._ask(Normalizer(mean, scale, self._clip), obs, rows, state)
        self._kind = type(output.actions)
        return (*output.actions, output.value, output.state)
