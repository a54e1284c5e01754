"""What may differ from one environment to the next in one scene: friction, the object's mass, the drives' gains.

Shape legend: N environments, M chosen environments.

Nothing is approximated: every factor is written into the values with which an engine computes that environment. The
object moves freely on its own, so that whatever an engine derives of its mass is proportional to it, or to its inverse.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import mujoco
from torch import Tensor

from epo_lightning.physics.rows import put, take

ALL = slice(None)


class _Scaled(NamedTuple):
    """Where a factor goes: a field of the model, the entries behind that of the environment, and its power."""

    field: str
    place: tuple[Any, ...]
    power: int = 1


def _places(model: mujoco.MjModel, factor: str) -> list[_Scaled]:
    thing = model.body("object").id
    first = int(model.jnt_dofadr[model.joint("object").id])
    dofs = slice(first, first + 6)
    places = {
        "friction": [_Scaled("geom_friction", (ALL, ALL))],
        "mass": [
            *(_Scaled(field, (thing,)) for field in ("body_mass", "body_inertia", "body_subtreemass")),
            *(_Scaled(field, (dofs,)) for field in ("dof_M0", "dof_damping")),
            _Scaled("body_invweight0", (thing,), -1),
            _Scaled("dof_invweight0", (dofs,), -1),
        ],
        # torque = gain * target - stiffness * angle - damping * speed
        "stiffness": [_Scaled("actuator_gainprm", (ALL, 0)), _Scaled("actuator_biasprm", (ALL, 1))],
        "damping": [_Scaled("actuator_biasprm", (ALL, 2))],
    }
    return places[factor]


def varied_fields(model: mujoco.MjModel, factors: Collection[str]) -> list[str]:
    """The fields of the model of which every environment needs values of its own to be multiplied by `factors`."""
    return list(dict.fromkeys(place.field for factor in factors for place in _places(model, factor)))


class Variation:
    """The factors of N environments, written where an engine reads its model.

    Args:
        model: The scene.
        fields: (N, ...) by name: the engine's own memory, with the values that factor 1 stands for. Those of
            `varied_fields` that are not there, the engine does not know.
        factors: Which of `base.FACTORS` will be given.
    """

    def __init__(self, model: mujoco.MjModel, fields: Mapping[str, Tensor], factors: Collection[str]) -> None:
        self._fields, self._world_mass = fields, None
        self._written = [
            (factor, place, fields[place.field][(ALL, *place.place)].clone())
            for factor in factors
            for place in _places(model, factor)
            if place.field in fields
        ]
        if "mass" in factors:
            body = model.body("object").id
            self._world_mass = fields["body_mass"][:, body].clone(), fields["body_subtreemass"][:, 0].clone()

    def write(self, ids: Tensor, factors: Mapping[str, Tensor]) -> None:
        """From the next step on the environments `ids` (M,) have `factors`, (M,) of each that was announced."""
        for name, place, values in self._written:
            own = take(values, ids)
            factor = factors[name].to(own).view(-1, *[1] * (own.dim() - 1))
            field = self._fields[place.field][(ALL, *place.place)]
            put(field, ids, own * factor if place.power > 0 else own / factor)
        if self._world_mass is not None:
            own, total = (take(values, ids) for values in self._world_mass)
            put(self._fields["body_subtreemass"][:, 0], ids, total + own * (factors["mass"].to(own) - 1))
