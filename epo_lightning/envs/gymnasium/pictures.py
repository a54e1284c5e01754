"""Pictures that Gymnasium's tasks draw of themselves.

Shape legend: M environments in a picture.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv as GymnasiumVector


def draw(vector: "GymnasiumVector[Any, Any]", envs: Sequence[int], name: str) -> list[np.ndarray]:
    """M pictures, (height, width, 3) uint8, of the size that the task has chosen.

    Args:
        vector: N environments.
        envs: Which of them.
        name: The task's, for the error message.

    Raises:
        Mistake: When the task has no pictures, or this machine cannot draw them.
    """
    from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

    if isinstance(vector, AsyncVectorEnv):  # OpenGL does not survive the fork of a process that has drawn
        raise Mistake(f"pictures of {name} need data.env.init_args.vectorization sync, got async")
    mode = getattr(vector, "render_mode", None)
    if mode != "rgb_array":
        raise Mistake(
            f"{name} has no pictures: it was made with render_mode {mode}"
            " (data.env.init_args.env_args), and only rgb_array gives them"
        )
    ours = prefer_egl()
    try:
        if isinstance(vector, SyncVectorEnv):
            return [_picture(vector.envs[env].render()) for env in envs]
        pictures: Any = vector.render()
        return [_picture(pictures[env]) for env in envs]
    except Exception as error:  # pygame, PyOpenGL and Gymnasium raise half a dozen types
        raise Mistake(f"{name} cannot be drawn here: {' '.join(str(error).split())}") from error
    finally:
        if ours:
            del os.environ["MUJOCO_GL"]


def _picture(drawn: object) -> np.ndarray:
    picture = np.asarray(drawn)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        got = type(drawn).__name__ if picture.ndim == 0 else f"{picture.dtype} of shape {picture.shape}"
        raise Mistake(f"render() must return (height, width, 3) uint8, got {got}")
    return picture


def prefer_egl() -> bool:
    """On Linux MuJoCo's tasks draw through EGL, unless `MUJOCO_GL` says otherwise: Gymnasium would need a display.

    Returns:
        Whether `MUJOCO_GL` was set. It must not be while MuJoCo is imported: that would then fail where EGL is missing.
    """
    if "MUJOCO_GL" in os.environ or not sys.platform.startswith("linux") or "mujoco" not in sys.modules:
        return False
    os.environ["MUJOCO_GL"] = "egl"
    return True


def fit_picture(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """`picture` as large as it fits into (height, width, 3), in the middle of black."""
    if picture.shape == (height, width, 3):
        return picture
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise Mistake(f"pictures need an extra ({error}): pip install 'epo-lightning[video]'") from error
    return np.asarray(ImageOps.pad(Image.fromarray(picture), (width, height)))
