"""The hyper-parameters of K agents that learn side by side, each by its own.

Shape legend: K agents, M agents that are written.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

OF_THE_LEARNER = (
    "learning_rate",
    "clip",
    "entropy",
    "gamma",
    "target_kl",
    "max_grad_norm",
    "num_epochs",
    "critic",
    "bounds",
)
"""Names of what every learner has; NaN as `target_kl` keeps the learning rate as it is."""
REWARD = "reward."
"""How the names of a task's reward parameters begin."""


class HyperParameters(nn.Module):
    """Named (K,) float64 buffers, in the checkpoint with the weights.

    Args:
        num_agents: K.
        initial: What every agent begins with: `OF_THE_LEARNER`, and `reward.NAME` of what the task exposes.
    """

    began_with: Tensor

    def __init__(self, num_agents: int, initial: Mapping[str, float]) -> None:
        super().__init__()
        self.names = tuple(initial)
        for name, value in initial.items():
            self.register_buffer(_of_buffer(name), torch.full((num_agents,), value, dtype=torch.float64))
        self.register_buffer("began_with", torch.tensor([*initial.values()], dtype=torch.float64))

    def __getitem__(self, name: str) -> Tensor:
        """(K,) float64: the buffer itself, on the module's device."""
        return self.get_buffer(_of_buffer(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def of_reward(self) -> dict[str, Tensor]:
        """(K,) of each of the task's reward parameters, by the task's own name."""
        return {name.removeprefix(REWARD): self[name] for name in self.names if name.startswith(REWARD)}

    def restart(self, initial: Mapping[str, float]) -> None:
        """After a checkpoint was loaded: a value that is set anew is every agent's; those that are not stay."""
        for place, name in enumerate(self.names):
            new = torch.tensor(initial[name], dtype=torch.float64)
            if not torch.equal(new.nan_to_num(), self.began_with[place].cpu().nan_to_num()):
                self[name].fill_(initial[name])
                self.began_with[place] = initial[name]

    def read(self) -> dict[str, Tensor]:
        """(K,) float64 of each name: copies on the CPU, which do not change when training goes on."""
        return {name: self[name].to("cpu", copy=True) for name in self.names}

    def write(self, agents: Tensor, values: Mapping[str, Tensor]) -> None:
        """Give `agents` (M,) other values, (M,) of each name that changes; from whatever device.

        Raises:
            KeyError: When there is no such name.
        """
        for name, value in values.items():
            if name not in self.names:
                raise KeyError(name)
            buffer = self[name]
            buffer[agents.to(buffer.device)] = value.to(buffer)


def _of_buffer(name: str) -> str:
    """A buffer's name has no dot in it."""
    return name.replace(".", "/")
