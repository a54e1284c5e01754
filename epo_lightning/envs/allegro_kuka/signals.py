"""What observations and actions of the Allegro-Kuka tasks are, entry by entry: the order of `task.Rules.observe`.

Positions are in the frame of the table, quaternions (w, x, y, z). The joints of an arm: seven of the arm from base to
wrist, then index, middle, ring finger and thumb with four each; the second arm follows the first.
"""

from torch import Tensor

from epo_lightning.envs.allegro_kuka.cards import ARM_JOINTS, BLOCK_ENTRIES, FINGERS, Card
from epo_lightning.envs.signals import Signal, Signals


def signals(card: Card, low: Tensor, high: Tensor) -> Signals:
    """Those of one task.

    Args:
        card: The task.
        low: (D,) limits of the joints, rad.
        high: (D,) limits of the joints, rad.
    """
    limits = {"low": tuple(low.tolist()), "high": tuple(high.tolist())}
    arms, keypoints, blocks = card.arms, card.keypoints, card.blocks_observed
    free = [Signal("obstacles", BLOCK_ENTRIES * blocks, "", "position, quaternion, velocities of each free one")]
    tips = [Signal("closest_tips", FINGERS, "m", "smallest distance of each fingertip from the object so far")]
    observation = [
        Signal("joint_position", card.joints, "rad", "-1 and 1 are the joint's limits, low and high", **limits),
        Signal("joint_velocity", card.joints, "rad/s"),
        Signal("palm_position", 3 * arms, "m"),
        Signal("wrist", 10 * arms, "", "last arm link: quaternion, velocity (m/s), angular velocity (rad/s)"),
        Signal("object", 10, "", "quaternion, velocity (m/s), angular velocity (rad/s)"),
        Signal("tip_from_palm", 3 * FINGERS * arms, "m", "fingertips minus their palm"),
        Signal("keypoint_from_palm", 3 * keypoints * arms, "m", "points of the object minus the palm, palm after palm"),
        Signal("keypoint_from_goal", 3 * keypoints, "m", "points of the object minus where they belong"),
        Signal("object_scale", 3, "", "edges of the object, in units of 5 cm"),
        *(free if blocks else []),
        Signal("closest_goal", 1, "m", "smallest keypoint distance since the goal was set"),
        *(tips if card.tips_observed else []),
        Signal("lifted", 1, "", "1 once the object has been lifted"),
        Signal("clock", 1, "", "logarithm of 1 + steps for this goal / 10"),
        Signal("successes", 1, "", "logarithm of 1 + goals reached in this episode"),
        Signal("reward", 1, "", "of the step before, scaled"),
    ]
    meaning = "target of the joint's drive: low + (a + 1) / 2 (high - low)"
    if card.arm_control == "integrated":
        meaning += f"; of the {ARM_JOINTS} joints of an arm instead: its speed, {card.arm_speed:g} rad/s at 1"
    return Signals(tuple(observation), (Signal("joint_target", card.joints, "rad", meaning, **limits),))
