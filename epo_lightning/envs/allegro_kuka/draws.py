"""What randomisation has drawn for every environment, and the noise and lateness that come of it.

Shape legend: N environments, P drawn values, O observation entries, D joints, L control steps of memory, M chosen
environments.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import Card
from epo_lightning.envs.allegro_kuka.layout import SENSED, entries_of
from epo_lightning.envs.allegro_kuka.randomization import UNITS, Range
from epo_lightning.envs.allegro_kuka.task import OBS_LIMIT
from epo_lightning.physics.base import FACTORS
from epo_lightning.physics.rows import put, take


class Drawn(NamedTuple):
    """What the environments have drawn.

    Attributes:
        names: P, of `randomization.UNITS`.
        units: P, of each.
        values: (N, P) float32 on the environment's device, of the episodes that run.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    values: Tensor


class Draws:
    """The randomisation of N environments, with a stream of random numbers of its own.

    Args:
        ranges: Of what is drawn, see `Randomization.ranges`.
        card: The task.
        num_envs: N.
        seed: Of the environments; the stream is another one than that of goals and starts, which stay what they are.
        device: Of all tensors.

    Attributes:
        names: P.
        factors: Those of `names` that an engine multiplies by.
    """

    def __init__(self, ranges: Mapping[str, Range], card: Card, num_envs: int, seed: int, device: torch.device) -> None:
        self.names = tuple(ranges)
        self.factors = tuple(name for name in ranges if name in FACTORS)
        low, self._high = torch.tensor([*ranges.values()], device=device).reshape(-1, 2).T
        whole = torch.tensor([name == "latency" for name in ranges], device=device)
        # whole numbers from low to high: floor of a uniform number in [low, high + 1)
        self._low, self._width, self._whole = low, self._high - low + whole, whole
        own_seed = int(np.random.SeedSequence((seed, 1)).generate_state(1)[0])
        self._generator = torch.Generator(device).manual_seed(own_seed)
        self.values = torch.zeros(num_envs, len(ranges), device=device)
        self._sensed = entries_of(card, SENSED).float().to(device)
        # of the targets of the last control steps; the place of step t is t modulo L
        steps = int(ranges["latency"][1]) + 1 if "latency" in ranges else 0
        self._late = torch.zeros(num_envs, steps, card.joints, device=device)
        self._clock = 0
        self._rows = torch.arange(num_envs, device=device)

    def drawn(self) -> Drawn:
        """What there is now."""
        return Drawn(self.names, tuple(UNITS[name] for name in self.names), self.values)

    def of(self, name: str) -> Tensor | None:
        """(N,) what was drawn of `name`; None where it is not randomised."""
        return self.values[:, self.names.index(name)] if name in self.names else None

    def scene(self, ids: Tensor) -> dict[str, Tensor]:
        """(M,) of each of `factors`, of the environments `ids`."""
        return {name: take(self.values[:, self.names.index(name)], ids) for name in self.factors}

    def restart(self, ids: Tensor, targets: Tensor) -> None:
        """Draw anew for the environments `ids` (M,), whose drives hold `targets` (M, D) until an action arrives."""
        noise = torch.rand(len(ids), len(self.names), generator=self._generator, device=self.values.device)
        values = self._low + self._width * noise
        put(self.values, ids, torch.where(self._whole, values.floor(), values).minimum(self._high))
        if self._late.shape[1]:
            put(self._late, ids, targets[:, None])

    def perturbed(self, actions: Tensor) -> Tensor:
        """`actions` (N, D) with noise."""
        std = self.of("action_noise")
        return actions if std is None else actions + std[:, None] * self._noise(actions)

    def delayed(self, targets: Tensor) -> Tensor:
        """The targets (N, D) that arrive in this step, in which `targets` (N, D) are sent."""
        latency, steps = self.of("latency"), self._late.shape[1]
        if latency is None:
            return targets
        self._late[:, self._clock] = targets
        arrived = self._late[self._rows, (self._clock - latency.long()) % steps]
        self._clock = (self._clock + 1) % steps
        return arrived

    def observed(self, obs: Tensor, ids: Tensor | slice = slice(None)) -> Tensor:
        """The observations `obs` (M, O) of the environments `ids`, with noise where a robot measures; in place.

        What stands behind the O entries of the task is left alone.
        """
        std = self.of("observation_noise")
        if std is not None:
            seen = obs[:, : len(self._sensed)]
            own = std if isinstance(ids, slice) else take(std, ids)
            seen.add_(own[:, None] * self._sensed * self._noise(seen)).clamp_(-OBS_LIMIT, OBS_LIMIT)
        return obs

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._generator, device=like.device)

    def state_dict(self) -> dict[str, Any]:
        """What was drawn, what is on its way to the drives, and the random generator."""
        names, late = list(self.names), self._late.clone()
        state = {"names": names, "values": self.values.clone(), "late": late, "clock": self._clock}
        return state | {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to the bit from `state`, which is of the same ranges."""
        self.values.copy_(state["values"])
        self._late.copy_(state["late"])
        self._clock = state["clock"]
        self._generator.set_state(state["generator"].cpu())
