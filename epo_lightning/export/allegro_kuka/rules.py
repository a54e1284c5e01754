"""The rules of a task as functions of rows, which can be written as ONNX: the task's own code, run on what is given.

Shape legend: one environment; D joints, V velocities of the scene, S sensor values, W entries of the memory, R random
numbers, O observation entries. All float32, with a leading axis of length 1.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from epo_lightning.envs.allegro_kuka.env import AllegroKuka
from epo_lightning.envs.allegro_kuka.memory import Memory
from epo_lightning.envs.allegro_kuka.task import Rules
from epo_lightning.export.allegro_kuka.draws import Draw, Given
from epo_lightning.export.formats import write_rows
from epo_lightning.physics.base import PhysicsState
from epo_lightning.physics.mujoco import RUNAWAY
from epo_lightning.physics.readout import Readout

_MOST_DRAWS = 512


class Function(NamedTuple):
    """What one file computes.

    Attributes:
        inputs: Names.
        outputs: Names.
        draws: Random numbers that it takes, in their order; the input `draws` where there are some.
    """

    inputs: list[str]
    outputs: list[str]
    draws: list[Draw]


def packed(memory: Memory) -> Tensor:
    """(N, W) all fields side by side."""
    return torch.cat([field.float().reshape(len(field), -1) for field in memory], dim=1)


class _Task(nn.Module):
    """One function of the rules.

    Args:
        env: The task, with one environment.
    """

    takes: tuple[str, ...]
    """Inputs besides `draws`."""
    gives: tuple[str, ...]

    def __init__(self, env: AllegroKuka) -> None:
        super().__init__()
        rules = env.rules
        self._card, self._generator, self._curriculum = rules.card, rules.generator, rules.curriculum
        self._low, self._high = rules.low, rules.high
        self._blank = Memory(*(field[:1].clone() for field in rules.memory))
        self._model, self._ids = env.physics.model, torch.arange(1)
        self.drawn: list[Draw] = []

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """What `gives` names, for what `takes` names and the random numbers behind."""
        inputs = dict(zip(self.takes, given, strict=False))
        rules = Rules(self._card, inputs["scales"], self._low, self._high, self._generator, self._curriculum)
        rules.memory = self._unpacked(inputs["memory"])
        with Given(given[-1]) as source:
            outputs = self.compute(rules, inputs)
        self.drawn = source.drawn
        return outputs

    def compute(self, rules: Rules, inputs: dict[str, Tensor], /) -> tuple[Tensor, ...]:
        """What `gives` names."""
        raise NotImplementedError

    def examples(self) -> list[Tensor]:
        """Inputs of the right shapes."""
        joints, fields = len(self._low), packed(self._blank).shape[1]
        sizes = {
            "scales": 3,
            "memory": fields,
            "action": joints,
            "position": joints,
            "velocity": self._model.nv,
            "sensors": self._model.nsensordata,
            "failed": 1,
        }
        return [torch.ones(1, sizes[name]) for name in self.takes]

    def _unpacked(self, values: Tensor) -> Memory:
        parts = values.clone().split([field[0].numel() for field in self._blank], dim=1)
        return Memory(
            *(part.reshape(field.shape).to(field.dtype).clone() for part, field in zip(parts, self._blank, strict=True))
        )

    def _state(self, inputs: dict[str, Tensor]) -> PhysicsState:
        """As the engine hands it over; numbers where it blew up."""
        readout = Readout(self._model, self._card.arms, 1, torch.device("cpu"))
        readout.take(inputs["sensors"])
        joints = len(self._low)
        state = readout.state(inputs["position"][:, :joints], inputs["velocity"][:, :joints])
        bad = self._blown_up(inputs)
        clean = (torch.where(bad.reshape(-1, *[1] * (field.dim() - 1)), _sane(field), field) for field in state)
        return PhysicsState(*clean)

    @staticmethod
    def _blown_up(inputs: dict[str, Tensor]) -> Tensor:
        return (inputs["failed"][:, 0] > 0) | ~(inputs["velocity"].abs().amax(dim=1) <= RUNAWAY)


def _sane(field: Tensor) -> Tensor:
    return field.nan_to_num(0, 0, 0).clamp(-RUNAWAY, RUNAWAY)


class Begin(_Task):
    """A new episode: where joints, object and goal are."""

    takes = ("scales", "memory")
    gives = ("memory_out", "joint_pos", "joint_vel", "object_pos", "object_quat", "goal_pos", "goal_quat")

    def compute(self, rules: Rules, _: dict[str, Tensor], /) -> tuple[Tensor, ...]:
        """See `_Task`."""
        start = rules.restart(self._ids)
        goal = rules.new_goals(self._ids)
        return packed(rules.memory), *start, *goal


class First(_Task):
    """The first observation of an episode."""

    takes = ("scales", "memory", "position", "velocity", "sensors", "failed")
    gives = ("obs",)

    def compute(self, rules: Rules, inputs: dict[str, Tensor], /) -> tuple[Tensor, ...]:
        """See `_Task`."""
        return (rules.first_observation(self._state(inputs), self._ids),)


class Goal(_Task):
    """A new goal, where the last one was reached, and a new place of the object where the task asks for one."""

    takes = ("scales", "memory")
    gives = ("memory_out", "goal_pos", "goal_quat", "object_pos", "object_quat")

    def compute(self, rules: Rules, _: dict[str, Tensor], /) -> tuple[Tensor, ...]:
        """See `_Task`."""
        goal = rules.new_goals(self._ids)
        placed = rules.new_object(self._ids) if self._card.replace_object else (torch.zeros(1, 3), torch.zeros(1, 4))
        return packed(rules.memory), *goal, *placed


class Before(_Task):
    """What the physics is told: targets of the drives, and the force on the object."""

    takes = ("scales", "memory", "action", "position", "velocity", "sensors", "failed")
    gives = ("memory_out", "targets", "force")

    def compute(self, rules: Rules, inputs: dict[str, Tensor], /) -> tuple[Tensor, ...]:
        """See `_Task`."""
        targets = rules.targets(inputs["action"])
        force = rules.forces(self._state(inputs).object_frame[:, :4])
        return packed(rules.memory), targets.clone(), torch.zeros(1, 3) if force is None else force


class After(_Task):
    """What a step led to."""

    takes = ("scales", "memory", "position", "velocity", "sensors", "failed")
    gives = ("memory_out", "obs", "reward", "success", "terminated", "truncated", "due")

    def compute(self, rules: Rules, inputs: dict[str, Tensor], /) -> tuple[Tensor, ...]:
        """See `_Task`."""
        told = rules.advance(self._state(inputs), self._blown_up(inputs))
        values = (told.obs, told.reward, told.success, told.terminated.float(), told.truncated.float())
        return packed(rules.memory), *values, rules.memory.goal_reached.float()


FUNCTIONS: dict[str, type[_Task]] = {"begin": Begin, "first": First, "goal": Goal, "before": Before, "after": After}
"""By name of their files."""


def write_rules(env: AllegroKuka, opset: int, folder: Path) -> dict[str, Function]:
    """Write the rules of `env` as files `<name>.onnx`.

    Args:
        env: The task, with one environment; its tolerance is held, and written into the files.
        opset: Of ONNX.
        folder: Where to.

    Returns:
        Of each of `FUNCTIONS` what goes in and comes out.
    """
    told = {}
    for name, kind in FUNCTIONS.items():
        module = kind(env)
        inputs, examples = list(kind.takes), module.examples()
        module(*examples, torch.zeros(1, _MOST_DRAWS))
        draws = module.drawn
        # a list without numbers is no input: it would be left over
        if draws:
            inputs.append("draws")
            examples.append(torch.full((1, sum(draw.size for draw in draws)), 0.5))
        write_rows(module, tuple(examples), inputs, list(kind.gives), opset, folder / f"{name}.onnx", many=False)
        told[name] = Function(inputs, list(kind.gives), draws)
    return told
