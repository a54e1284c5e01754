"""The eight Allegro-Kuka tasks as data.

One arm has 7 joints, its hand 16 (index, middle, ring, thumb, four each). Lengths are metres, times control steps of
1/60 s. The families differ in more than the number of arms: see `arm_control`, `fingers_always_paid` and
`velocity_penalty`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from epo_lightning.envs.allegro_kuka.obstacles import Block, Box
from epo_lightning.limits import Mistake

ARM_JOINTS = 7
HAND_JOINTS = 16
FINGERS = 4
STEP_SECONDS = 1 / 60
TABLE_TOP = 0.53
BLOCK_ENTRIES = 13
"""Of the observation, per free block: position (3), quaternion (4), linear and angular velocity (3, 3)."""


@dataclass(frozen=True)
class Card:
    """One task.

    Args:
        name: Key of the task in YAML.
        title: Name in the literature.
        arms: 1 or 2.
        arm_control: "absolute": an action names a joint angle within the joint's limits. "integrated": it names the
            speed of the target. Fingers are always absolute.
        arm_speed: How fast the targets of arm joints move at most, rad/s; infinite: at once.
        arm_pose: Default angles of the seven arm joints, rad; all fingers 0.
        table: Full size of the table top block along x; 0.40 along y, its top at z = `TABLE_TOP`.
        objects: Name of the object set: "all" or "small".
        object_box: Where the object's centre starts.
        goal_box: Where the goal is drawn.
        mirrored: The x ranges above are mirrored by a random sign, drawn for object and goal independently.
        goal: "pose" (position and orientation, four keypoints), "point" (one keypoint) or "bucket" (one keypoint, 5 cm
            above the floor of a bucket that stands at the drawn place).
        budget: Steps per goal; reaching a goal restarts the clock.
        hold_steps: Steps near the goal, not necessarily in a row, that make a success.
        curriculum: Whether the tolerance shrinks as successes grow.
        forces: Whether random forces push the object.
        replace_object: Whether a success puts the object back on the table (else it stays in the hand).
        fingers_always_paid: Whether approaching the object with the fingertips is paid after the lift, too.
        velocity_penalty: Whether joint velocities cost reward.
        max_tip_distance: The episode ends when a fingertip is farther than this from the object; None: never.
        obstacles: What stands on the table.
        observe_obstacles: Whether the observation tells where the obstacles are that can be pushed.
    """

    name: str
    title: str
    arms: int
    arm_control: Literal["absolute", "integrated"]
    arm_speed: float
    arm_pose: tuple[float, ...]
    table: float
    objects: str
    object_box: Box
    goal_box: Box
    mirrored: bool
    goal: Literal["pose", "point", "bucket"]
    budget: int
    hold_steps: int
    curriculum: bool = True
    forces: bool = True
    replace_object: bool = False
    fingers_always_paid: bool = False
    velocity_penalty: bool = False
    max_tip_distance: float | None = None
    obstacles: tuple[Block, ...] = ()
    observe_obstacles: bool = False

    @property
    def joints(self) -> int:
        """D, actuated joints = length of an action."""
        return self.arms * (ARM_JOINTS + HAND_JOINTS)

    @property
    def keypoints(self) -> int:
        """K, points of the object that are compared with the goal's."""
        return 4 if self.goal == "pose" else 1

    @property
    def tips_observed(self) -> bool:
        """Whether the smallest fingertip distances so far are part of the observation (one arm only)."""
        return self.arms == 1

    @property
    def blocks_observed(self) -> int:
        """Free obstacles in the observation."""
        return sum(block.mass is not None for block in self.obstacles) if self.observe_obstacles else 0

    @property
    def obs_dim(self) -> int:
        """O: joints, palms, wrists, object, fingertips, keypoints, object scales, blocks, and five task scalars."""
        hands = self.arms * (3 + 10 + 3 * FINGERS + 3 * self.keypoints)
        rest = BLOCK_ENTRIES * self.blocks_observed + (FINGERS if self.tips_observed else 0) + 5
        return 2 * self.joints + hands + 10 + 3 * self.keypoints + 3 + rest

    @property
    def object_mirrored(self) -> bool:
        """Whether the object, too, may start on the mirror image of its box."""
        return self.mirrored and self.arms == 2

    @property
    def object_starts(self) -> tuple[Box, ...]:
        """Where the object's centre starts: `object_box` and, with two arms, its mirror image."""
        (left, right), y, z = self.object_box
        return (self.object_box, ((-right, -left), y, z)) if self.object_mirrored else (self.object_box,)


def _single(name: str, title: str, **fields: Any) -> Card:
    values: dict[str, Any] = {
        "arms": 1,
        "arm_control": "integrated",
        "arm_speed": 10.0,
        "arm_pose": (-1.571, 1.571, 0.0, 1.376, 0.0, 1.485, 2.358),
        "table": 0.475,
        "objects": "all",
        "object_box": ((-0.1, 0.1), (-0.1, 0.1), (0.61, 0.65)),
        "goal_box": ((-0.4, 0.4), (0.0, 0.35), (0.68, 1.05)),
        "mirrored": False,
        "velocity_penalty": True,
    }
    return Card(name=name, title=title, **(values | fields))


def _two(name: str, title: str, **fields: Any) -> Card:
    values: dict[str, Any] = {
        "arms": 2,
        "arm_control": "absolute",
        "arm_speed": inf,
        "arm_pose": (-1.571, 1.571, 0.0, 1.6, 0.0, 1.485, 2.358),
        "table": 1.10,
        "objects": "all",
        "object_box": ((0.25, 0.45), (-0.1, 0.1), (0.61, 0.65)),
        "goal_box": ((0.55, 0.95), (-0.5, 0.5), (0.68, 1.05)),
        "mirrored": True,
        "goal": "pose",
        "budget": 600,
        "hold_steps": 1,
        "fingers_always_paid": True,
    }
    return Card(name=name, title=title, **(values | fields))


# Walls across the middle of the table, 5 cm thick and as wide as the table. The hole is between z = 0.8 and 1.0; the
# partition stands loose on the table: the first obstacle to push aside.
HOLE = (Block((0.05, 0.4, 0.3), (0.0, 0.0, 0.65)), Block((0.05, 0.4, 1.0), (0.0, 0.0, 1.5)))
BARRIER = (Block((0.05, 0.4, 1.5), (0.0, 0.0, 1.25)),)
PARTITION = (Block((0.05, 0.4, 0.3), (0.0, 0.0, 0.68), mass=0.5),)

CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        _two("two_arm", "Two-Arm Reorientation"),
        _two("two_arm_hole", "Two-Arm Reorientation (Hole)", obstacles=HOLE),
        _two("two_arm_barrier", "Two-Arm Reorientation (Barrier)", obstacles=BARRIER),
        _two("two_arm_partition", "Two-Arm Reorientation (Partition)", obstacles=PARTITION),
        _two(
            "two_arm_regrasp",
            "Two-Arm Regrasping",
            goal="point",
            budget=400,
            hold_steps=30,
            replace_object=True,
        ),
        _single(
            "single_arm_reorient",
            "Single-Arm Reorientation",
            goal="pose",
            budget=600,
            hold_steps=1,
            max_tip_distance=1.5,
        ),
        _single(
            "single_arm_regrasp",
            "Single-Arm Regrasping",
            goal="point",
            budget=400,
            hold_steps=30,
            replace_object=True,
        ),
        _single(
            "single_arm_throw",
            "Single-Arm Throwing",
            goal="bucket",
            goal_box=((0.5, 0.9), (-1.0, 0.7), (0.0, 1.0)),
            mirrored=True,
            objects="small",
            budget=300,
            hold_steps=5,
            curriculum=False,
            forces=False,
            replace_object=True,
        ),
    )
}
"""All tasks by name."""


def card(name: str) -> Card:
    """The task called `name`.

    Raises:
        Mistake: When there is no such task.
    """
    if name not in CARDS:
        raise Mistake(f"data.env.init_args.task must be one of {', '.join(CARDS)}; got {name!r}")
    return CARDS[name]


def variant(
    name: str, obstacles: Sequence[Block] | None, observe_obstacles: bool, arm_speed: float | None = None
) -> Card:
    """The task called `name` with other `obstacles`, observed or not, and another `arm_speed` (None: its own).

    Raises:
        Mistake: When there is no such task, or no obstacle to be observed, or the arms could not move.
    """
    own = card(name)
    if arm_speed is not None and not arm_speed > 0:
        raise Mistake(f"data.env.init_args.arm_speed must be positive (rad/s); got {arm_speed}")
    blocks = own.obstacles if obstacles is None else tuple(obstacles)
    if observe_obstacles and all(block.mass is None for block in blocks):
        raise Mistake(
            f"data.env.init_args.observe_obstacles: no obstacle of {name} can be pushed; set it to false, or give one"
            " of data.env.init_args.obstacles a mass"
        )
    speed = own.arm_speed if arm_speed is None else arm_speed
    return replace(own, obstacles=blocks, observe_obstacles=observe_obstacles, arm_speed=speed)
