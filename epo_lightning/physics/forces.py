"""What pushes the objects during a step: the task's random forces and the user's hand.

Shape legend: N environments.
"""

from torch import Tensor


class ObjectForces:
    """The forces on the objects' centres in the next step, written where an engine reads them.

    Args:
        forces: (N, 3) the engine's own, in N; any float type.
    """

    def __init__(self, forces: Tensor) -> None:
        self._forces = forces
        self._pushes: list[tuple[int, Tensor]] = []

    def push(self, env: int, force: Tensor) -> None:
        """Add `force`, (3,) in N, to the object of environment `env` in the next step alone."""
        self._pushes.append((env, force))

    def write(self, object_force: Tensor | None) -> None:
        """Write the next step's forces: `object_force`, (N, 3) in N or None for none, and the pushes, now used up."""
        if object_force is None:
            self._forces.zero_()
        else:
            self._forces.copy_(object_force)
        for env, force in self._pushes:
            self._forces[env] += force.to(self._forces.device)
        self.forget()

    def forget(self) -> None:
        """Drop the pushes."""
        self._pushes.clear()
