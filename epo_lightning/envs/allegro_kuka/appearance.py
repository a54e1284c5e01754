"""What the scene looks like: sky, ground, light and the camera. Nothing here is physical."""

import mujoco
import numpy as np

from epo_lightning.envs.allegro_kuka.cards import Card

CAMERA = "front"
GROUND = "ground"
"""Name of the ground's material."""

_SKY, _HORIZON = (0.42, 0.6, 0.8), (0.93, 0.95, 0.97)
_LIGHT_TILE, _DARK_TILE = (0.72, 0.74, 0.77), (0.67, 0.69, 0.72)
_TEXTURE = 64
"""Pixels: a snapshot copies the textures with the model."""


def add_appearance(spec: mujoco.MjSpec, card: Card) -> None:
    """Add everything that only eyes need to the scene of `card`."""
    kind, builtin = mujoco.mjtTexture, mujoco.mjtBuiltin
    sky = spec.add_texture(name="sky", type=kind.mjTEXTURE_SKYBOX, builtin=builtin.mjBUILTIN_GRADIENT)
    sky.rgb1, sky.rgb2, sky.width, sky.height = _HORIZON, _SKY, _TEXTURE, _TEXTURE * 6
    tiles = spec.add_texture(name=GROUND, type=kind.mjTEXTURE_2D, builtin=builtin.mjBUILTIN_CHECKER)
    tiles.rgb1, tiles.rgb2, tiles.width, tiles.height = _LIGHT_TILE, _DARK_TILE, _TEXTURE, _TEXTURE
    ground = spec.add_material(name=GROUND, texrepeat=[2, 2], texuniform=True, specular=0.1, shininess=0.1)
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = GROUND

    # half the triangles of a round shape: a software renderer is then a third faster
    spec.visual.quality.numslices, spec.visual.quality.numstacks = 20, 10
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = [0.4] * 3, [0.25] * 3, [0.05] * 3
    sun = {"type": mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, "castshadow": False}
    spec.worldbody.add_light(pos=[-1, -2, 4], dir=[0.35, 0.45, -0.82], diffuse=[0.5] * 3, specular=[0.15] * 3, **sun)
    spec.worldbody.add_light(pos=[2, 0, 3], dir=[-0.7, 0.3, -0.6], diffuse=[0.15] * 3, specular=[0.0] * 3, **sun)

    pos, target = _view(card)
    spec.worldbody.add_camera(name=CAMERA, pos=pos, xyaxes=_aim(np.array(pos), np.array(target)))


def _view(card: Card) -> tuple[list[float], list[float]]:
    """Where the camera stands and what it points at: all that matters to the task lies in its picture."""
    if card.arms == 2:
        return [0.4, -2.23, 1.77], [0.07, -0.4, 0.9]
    if card.goal == "bucket":
        return [0.7, -2.7, 2.15], [0.03, -0.4, 0.64]
    return [0.86, -1.13, 1.42], [0.02, 0.22, 0.72]


def _aim(pos: np.ndarray, target: np.ndarray) -> list[float]:
    """Axes of an upright camera at `pos` that points at `target`: to the right, and up."""
    forward = target - pos
    right = np.cross(forward, [0, 0, 1])
    up = np.cross(right, forward)
    return [*(right / np.linalg.norm(right)).tolist(), *(up / np.linalg.norm(up)).tolist()]
