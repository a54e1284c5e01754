"""What is drawn anew for every episode of every environment, as ranges: domain randomisation.

A range is a lowest and a highest value, both of which can be drawn; everything is drawn uniformly and independently.
"""

from dataclasses import dataclass, fields

from epo_lightning.envs.allegro_kuka.cards import STEP_SECONDS
from epo_lightning.limits import Mistake, require_range

KEY = "data.env.init_args.randomization"
FACTOR_MAX = 100.0
LATENCY_MAX = 30
"""Control steps: half a second."""
NOISE_MAX = 1.0

Range = tuple[float, float]

UNITS = {
    "friction": "factor",
    "mass": "factor",
    "stiffness": "factor",
    "damping": "factor",
    "latency": f"steps of {STEP_SECONDS:.4g} s",
    "observation_noise": "standard deviation, own unit of each entry",
    "action_noise": "standard deviation, half range of an action",
}
"""Everything that can be drawn for an environment, and in which unit."""


@dataclass(frozen=True)
class Randomization:
    """Ranges from which every environment draws anew whenever an episode begins; null: as the task is.

    Args:
        friction: Factor of the friction of all contacts: hands, object, table and obstacles.
        mass: Factor of the object's mass and inertia.
        gains: Factors of the joint drives' stiffness and damping, drawn independently of each other, each for all
            drives of an environment; torque limits stay.
        stiffness: The same of the stiffness alone, in place of `gains`.
        damping: The same of the damping alone, in place of `gains`.
        latency: Control steps (1/60 s) by which actions come late, whole numbers up to 30; until the first one arrives
            the drives hold the pose in which the episode began.
        observation_noise: Standard deviation of white noise on every entry of the observation that a robot has to
            measure, in the entry's unit (m, rad/s, share of half a joint's range, ...). A number is that of all
            environments; of a range each episode draws its own.
        action_noise: The same on the actions, whose range is -1 to 1.
    """

    friction: Range | None = None
    mass: Range | None = None
    gains: Range | None = None
    stiffness: Range | None = None
    damping: Range | None = None
    latency: tuple[int, int] | None = None
    observation_noise: float | Range | None = None
    action_noise: float | Range | None = None

    @property
    def ranges(self) -> dict[str, Range]:
        """The range of everything that differs between environments, or is not what the task says, as in `UNITS`."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        if (gains := given.pop("gains")) is not None:
            given["stiffness"] = given["damping"] = gains
        values = {name: (low, low) if isinstance(low := given[name], int | float) else low for name in UNITS}
        return {name: (float(value[0]), float(value[1])) for name, value in values.items() if value is not None}


def check_randomization(randomization: Randomization) -> None:
    """Refuse ranges of which nothing can be drawn.

    Raises:
        Mistake: When a range is the wrong way round or out of bounds, or something is given twice.
    """
    for name in ("stiffness", "damping"):
        if randomization.gains is not None and getattr(randomization, name) is not None:
            raise Mistake(f"{KEY}.gains and {KEY}.{name} say the same thing twice: set one of them to null")
    for name in ("friction", "mass", "gains", "stiffness", "damping"):
        _check(name, getattr(randomization, name), FACTOR_MAX, open_low=True)
    _check("latency", randomization.latency, LATENCY_MAX)
    for name in ("observation_noise", "action_noise"):
        noise = getattr(randomization, name)
        _check(name, (noise, noise) if isinstance(noise, int | float) else noise, NOISE_MAX)


def _check(name: str, limits: Range | None, high: float, *, open_low: bool = False) -> None:
    if limits is None:
        return
    first, last = limits
    for value in limits:
        require_range(f"{KEY}.{name}", value, 0, high, open_low=open_low)
    if last < first:
        raise Mistake(f"{KEY}.{name} must go from low to high: [{last:g}, {first:g}]; got [{first:g}, {last:g}]")
