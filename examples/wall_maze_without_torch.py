"""Play the wall maze by an exported policy: numpy and onnxruntime, no torch, no epo_lightning.

    python examples/wall_maze_without_torch.py runs/first/policy --episodes 512

A point stands in front of a cup-shaped wall, the goal lies behind it. `validate` plays the same episodes with torch.
"""

import argparse
import sys

import numpy as np

from epo_runtime import Policy, PolicyError

WALLS = np.array(  # x from, x to, y from, y to
    [[0.3, 0.7, 0.25, 0.35], [0.3, 0.7, -0.35, -0.25], [0.6, 0.7, -0.35, 0.35]], np.float32
)
LOW, HIGH, GOAL = np.array([[-0.6, -0.85], [1.5, 0.85], [1.0, 0.0]], np.float32)
SPEED, RADIUS, START, LIMIT = 0.1, 0.2, 0.1, 100


def moved(position: np.ndarray, action: np.ndarray) -> np.ndarray:
    """(N, 2) positions after a step: along x, then along y, each as far as the first wall."""
    position = position.copy()
    for axis in (0, 1):
        low, high, side, other = WALLS[:, [2 * axis, 2 * axis + 1, 2 - 2 * axis, 3 - 2 * axis]].T
        here, across = position[:, axis, None], position[:, 1 - axis, None]
        level = (across > side) & (across < other)
        ahead = np.where(level & (here <= low), low, np.inf).min(1)
        behind = np.where(level & (here >= high), high, -np.inf).max(1)
        goes = np.clip(position[:, axis] + SPEED * action[:, axis], behind, ahead)
        position[:, axis] = np.clip(goes, LOW[axis], HIGH[axis])
    return position


def play(policy: Policy, episodes: int, seed: int = 0) -> np.ndarray:
    """(episodes,) returns of complete episodes, all at once."""
    position = np.random.default_rng(seed).uniform(-START, START, (episodes, 2)).astype(np.float32)
    returns, running = np.zeros(episodes), np.ones(episodes, bool)
    policy.reset()
    for _ in range(LIMIT):
        position = moved(position, policy.act(position))
        distance = np.linalg.norm(position - GOAL, axis=1)
        returns += running * (10.0 * (distance <= RADIUS) - 0.1 * distance)
        running &= distance > RADIUS
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Play the wall maze by an exported policy.")
    parser.add_argument("folder")
    parser.add_argument("--agent", type=int)
    parser.add_argument("--episodes", type=int, default=512)
    given = parser.parse_args()
    try:
        policy = Policy.load(given.folder, agent=given.agent)
    except PolicyError as error:
        sys.exit(f"error: {error}")
    returns = play(policy, given.episodes)
    print(f"return {returns.mean():.4f}, standard error {returns.std(ddof=1) / len(returns) ** 0.5:.4f}")
