"""What the scenes with bodies look like: sky, ground, light and a camera. Nothing here is physical."""

import mujoco
import numpy as np

GROUND = "ground"
"""Name of the ground's material."""
_TEXTURE = 64


def add_scenery(spec: mujoco.MjSpec, camera: str, eye: list[float], target: list[float], tile: float) -> None:
    """Add sky, light, a material for the ground, and a camera.

    Args:
        spec: The scene.
        camera: The camera's name.
        eye: Where it stands, m.
        target: What it points at, m.
        tile: Edge of a tile of the ground, m.
    """
    kind, builtin = mujoco.mjtTexture, mujoco.mjtBuiltin
    sky = spec.add_texture(name="sky", type=kind.mjTEXTURE_SKYBOX, builtin=builtin.mjBUILTIN_GRADIENT)
    sky.rgb1, sky.rgb2, sky.width, sky.height = (0.93, 0.95, 0.97), (0.42, 0.6, 0.8), _TEXTURE, _TEXTURE * 6
    tiles = spec.add_texture(name=GROUND, type=kind.mjTEXTURE_2D, builtin=builtin.mjBUILTIN_CHECKER)
    tiles.rgb1, tiles.rgb2, tiles.width, tiles.height = (0.72, 0.74, 0.77), (0.67, 0.69, 0.72), _TEXTURE, _TEXTURE
    ground = spec.add_material(name=GROUND, texrepeat=[0.5 / tile] * 2, texuniform=True, specular=0.1, shininess=0.1)
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = GROUND
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = [0.4] * 3, [0.25] * 3, [0.05] * 3
    sun = {"type": mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, "castshadow": False}
    spec.worldbody.add_light(pos=[-1, -2, 4], dir=[0.35, 0.45, -0.82], diffuse=[0.5] * 3, specular=[0.15] * 3, **sun)

    forward = np.array(target) - np.array(eye)
    right = np.cross(forward, [0, 0, 1])
    up = np.cross(right, forward)
    axes = [*(right / np.linalg.norm(right)).tolist(), *(up / np.linalg.norm(up)).tolist()]
    spec.worldbody.add_camera(name=camera, pos=eye, xyaxes=axes)
