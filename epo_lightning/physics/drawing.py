"""Pictures of a MuJoCo scene without a window.

OpenGL is loaded when the first picture is asked for. On Linux it is reached through EGL, which needs no display, unless
`MUJOCO_GL` asks for something else.
"""

import copy
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import mujoco
import numpy as np

from epo_lightning.limits import Mistake

LARGEST = 4096
"""Pixels along an edge; what every OpenGL implementation can do."""
_MAX_GEOMS = 2000


class Marker(NamedTuple):
    """A sphere that is drawn but is no part of the physics: centre (3), radius (m), red, green, blue, opacity."""

    pos: tuple[float, float, float]
    radius: float
    rgba: tuple[float, float, float, float]


class OffscreenContext(Protocol):
    """An OpenGL context of MuJoCo's without a window."""

    def make_current(self) -> None:
        """Draw with it in this thread from now on."""

    def free(self) -> None:
        """Give it back to the driver."""


class SceneDrawing:
    """Draws the states of one scene, always in the same size.

    Args:
        model: The scene.
        width: Pixels.
        height: Pixels.
        camera: Name of one of the scene's cameras.

    Raises:
        Mistake: When this machine cannot draw, or the size is out of range.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int, camera: str) -> None:
        if not (1 <= width <= LARGEST and 1 <= height <= LARGEST):
            raise Mistake(f"width and height of a picture must be 1 to {LARGEST} pixels, got {width} x {height}")
        self.width, self.height = width, height
        sized = copy.copy(model)
        sized.vis.global_.offwidth, sized.vis.global_.offheight = width, height
        self._gl = offscreen_context(width, height)
        try:
            self._buffers = mujoco.MjrContext(sized, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:  # GLFW's contexts fail no sooner
            raise _refusal(error) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._buffers)
        self._rect = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        # a software renderer takes eight times as long with shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(camera).id

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData, markers: Iterable[Marker] = ()) -> np.ndarray:
        """A picture, (height, width, 3) uint8, of `data`; `model` may differ from the first one in sizes of geoms."""
        self._gl.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, self._option, None, self._camera, everything, self._scene)
        add_markers(self._scene, markers)
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        mujoco.mjr_render(self._rect, self._scene, self._buffers)
        mujoco.mjr_readPixels(picture, None, self._rect, self._buffers)
        return picture[::-1]  # OpenGL begins at the bottom

    def close(self) -> None:
        """Free what the graphics driver holds."""
        self._gl.make_current()
        self._buffers.free()
        self._gl.free()


def add_markers(scene: mujoco.MjvScene, markers: Iterable[Marker]) -> None:
    """Append `markers` to a scene that `mjv_updateScene` has filled."""
    for marker in markers:
        geom = scene.geoms[scene.ngeom]
        size, turn = np.full(3, marker.radius), np.eye(3).ravel()
        pos, rgba = np.array(marker.pos, dtype=np.float64), np.array(marker.rgba, dtype=np.float32)
        mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_SPHERE, size, pos, turn, rgba)
        scene.ngeom += 1


def offscreen_context(width: int, height: int) -> OffscreenContext:
    """An OpenGL context without a window, current in this thread.

    Raises:
        Mistake: When OpenGL is missing or does not start.
    """
    try:
        if sys.platform.startswith("linux") and not os.environ.get("MUJOCO_GL"):
            # MuJoCo chooses when it is imported, which is long ago: a training must not depend on EGL
            from mujoco.egl import GLContext

            context: OffscreenContext = GLContext(width, height)
        else:
            context = mujoco.GLContext(width, height)
        context.make_current()
    except Exception as error:  # ctypes, PyOpenGL, GLFW and MuJoCo raise half a dozen types
        raise _refusal(error) from error
    return context


def _refusal(error: Exception) -> Mistake:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    remedy = "on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri"
    if not sys.platform.startswith("linux"):
        remedy = "OpenGL must be there for a program without a window"
    return Mistake(f"this machine cannot draw; {remedy} (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}, {reason})")
