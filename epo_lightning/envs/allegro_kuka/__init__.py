"""The eight Allegro-Kuka tasks: one or two arms with dexterous hands move cuboids to goals.

`cards` has the tasks as data, `objects` the cuboids, `task` the rules on tensors (with `memory`, `resets` and
`rotation`), `randomization` and `draws` what differs between environments, `mirror` the tasks' symmetry, `robot` the
robot's numbers, `scene` and `robot_bodies` the model; `env` puts them together.
"""

from epo_lightning.envs.allegro_kuka.env import AllegroKuka

__all__ = ["AllegroKuka"]
