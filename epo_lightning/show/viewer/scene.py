"""A MuJoCo scene as nodes of a web page.

Shape legend: G geoms of the model.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np
import trimesh
from viser import BoxHandle, CylinderHandle, GridHandle, IcosphereHandle, MeshHandle, SceneApi, SceneNodeDragEvent

from epo_lightning.limits import Mistake
from epo_lightning.physics.drawing import Marker

KINDS = {
    int(mujoco.mjtGeom.mjGEOM_PLANE): "plane",
    int(mujoco.mjtGeom.mjGEOM_SPHERE): "sphere",
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): "capsule",
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): "cylinder",
    int(mujoco.mjtGeom.mjGEOM_BOX): "box",
}
"""What can be drawn."""
UNSET_RGBA = (0.5, 0.5, 0.5, 1.0)
"""MuJoCo's colour of a geom that names none: its material's holds then."""
STEP_BACK = 1.15
"""How much farther away the page's camera is: the controls leave a narrower picture than a video's."""


Node = GridHandle | IcosphereHandle | CylinderHandle | BoxHandle | MeshHandle
"""What `Shape` becomes."""


class Shape(NamedTuple):
    """One geom as the page draws it.

    Attributes:
        name: Path of its node, unique in the scene.
        kind: A value of `KINDS`.
        size: (3,) MuJoCo's sizes, m: half edges; radius; radius and half length; half sides of a plane (0: endless).
        color: Red, green and blue, 0 to 255.
        opacity: 0 to 1.
    """

    name: str
    kind: str
    size: tuple[float, float, float]
    color: tuple[int, int, int]
    opacity: float


class Camera(NamedTuple):
    """The view of the page: position (3,), a point (3,) in the middle of the picture, vertical angle in rad."""

    position: np.ndarray
    look_at: np.ndarray
    angle: float


def shapes(model: mujoco.MjModel) -> list[Shape]:
    """The geoms of `model`, in its order.

    Raises:
        Mistake: When one of them is of a kind that cannot be drawn.
    """
    found = []
    for index in range(model.ngeom):
        name = model.geom(index).name or f"geom{index}"
        kind = KINDS.get(int(model.geom_type[index]))
        if kind is None:
            raise Mistake(f"view: geom {name} of this scene is none of {', '.join(KINDS.values())}")
        *color, opacity = rgba(model, index)
        red, green, blue = (round(255 * part) for part in color)
        x, y, z = (float(length) for length in model.geom_size[index])
        found.append(Shape(f"/geoms/{index}_{name}", kind, (x, y, z), (red, green, blue), opacity))
    return found


def rgba(model: mujoco.MjModel, geom: int) -> list[float]:
    """(4,) colour of a geom; where its material has a picture, the mean colour of that."""
    own, material = model.geom_rgba[geom], model.geom_matid[geom]
    if material < 0:
        return [float(part) for part in own]
    color = (model.mat_rgba[material] if np.allclose(own, UNSET_RGBA) else own).copy()
    texture = model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB]
    if texture >= 0:
        count = model.tex_height[texture] * model.tex_width[texture] * model.tex_nchannel[texture]
        pixels = model.tex_data[model.tex_adr[texture] :][:count].reshape(-1, model.tex_nchannel[texture])
        color[:3] *= pixels[:, :3].mean(axis=0) / 255
    return [float(part) for part in color]


def poses(data: mujoco.MjData) -> tuple[np.ndarray, np.ndarray]:
    """Where the geoms are: positions (G, 3) in m and quaternions (G, 4) as (w, x, y, z)."""
    quats = np.empty((len(data.geom_xmat), 4))
    for quat, matrix in zip(quats, data.geom_xmat, strict=True):
        mujoco.mju_mat2Quat(quat, matrix)
    return data.geom_xpos.copy(), quats


def camera(model: mujoco.MjModel, data: mujoco.MjData) -> Camera:
    """The view of the scene's first camera from farther back, around the point on its axis nearest to the object."""
    position, forward = data.cam_xpos[0], -data.cam_xmat[0].reshape(3, 3)[:, 2]
    look_at = position + forward @ (data.body("object").xpos - position) * forward
    return Camera(look_at + STEP_BACK * (position - look_at), look_at, float(np.radians(model.cam_fovy[0])))


class Nodes:
    """The geoms and markers of one environment on the page; they replace those of another one, which are named alike.

    Args:
        api: The page's scene.
        model: The environment's model, with its own object size.
        markers: What is drawn in addition to the geoms; later ones must be as many.
        on_drag: Called while the object is dragged with the mouse.
    """

    def __init__(
        self,
        api: SceneApi,
        model: mujoco.MjModel,
        markers: Sequence[Marker],
        on_drag: Callable[[SceneNodeDragEvent[Any]], Any],
    ) -> None:
        self.geoms = [_node(api, shape) for shape in shapes(model)]
        self.markers = [_ball(api, _sphere(number, marker)) for number, marker in enumerate(markers)]
        body = model.body("object")
        for handle in self.geoms[body.geomadr[0] : body.geomadr[0] + body.geomnum[0]]:
            assert not isinstance(handle, GridHandle), "a plane does not move"
            handle.on_drag(on_drag)

    def move(self, data: mujoco.MjData, markers: Sequence[Marker]) -> None:
        """Put every geom where it is in `data`, and every marker; what has not moved is not sent."""
        for handle, position, quat in zip(self.geoms, *poses(data), strict=True):
            handle.position, handle.wxyz = position, quat
        for handle, marker in zip(self.markers, markers, strict=True):
            handle.position = marker.pos
            if handle.radius != marker.radius:
                handle.radius = marker.radius


def _sphere(number: int, marker: Marker) -> Shape:
    """A marker as a shape."""
    red, green, blue = (round(255 * part) for part in marker.rgba[:3])
    return Shape(f"/markers/{number}", "sphere", (marker.radius, 0.0, 0.0), (red, green, blue), marker.rgba[3])


def _node(api: SceneApi, shape: Shape) -> Node:
    """The node of `shape`, at the origin."""
    x, y, z = shape.size
    material = _material(shape)
    if shape.kind == "plane":
        return _ground(api, shape)
    if shape.kind == "sphere":
        return _ball(api, shape)
    if shape.kind == "cylinder":
        return api.add_cylinder(shape.name, radius=x, height=2 * y, **material)
    if shape.kind == "box":
        return api.add_box(shape.name, dimensions=(2 * x, 2 * y, 2 * z), **material)
    mesh = trimesh.creation.capsule(height=2 * y, radius=x, count=[16, 16])
    return api.add_mesh_simple(shape.name, vertices=mesh.vertices, faces=mesh.faces, **material)


def _material(shape: Shape) -> dict[str, Any]:
    """Colour, and no shadow of what is seen through."""
    material: dict[str, Any] = {"color": shape.color}
    return material | {"opacity": shape.opacity, "cast_shadow": False} if shape.opacity < 1 else material


def _ball(api: SceneApi, shape: Shape) -> IcosphereHandle:
    """A sphere, whose radius can be changed."""
    return api.add_icosphere(shape.name, radius=shape.size[0], **_material(shape))


def _ground(api: SceneApi, shape: Shape) -> GridHandle:
    """A floor with lines every half metre."""
    x, y, _ = shape.size
    red, green, blue = (round(0.85 * part) for part in shape.color)
    return api.add_grid(
        shape.name,
        width=2 * x,
        height=2 * y,
        infinite_grid=x == 0 or y == 0,
        plane_color=shape.color,
        plane_opacity=shape.opacity,
        cell_color=(red, green, blue),
        section_color=(red, green, blue),
    )
