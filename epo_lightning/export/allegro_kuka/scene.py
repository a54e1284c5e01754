"""The scene of a task for another build of MuJoCo: a text for what there is, arrays for how large it is.

The text rounds its numbers, and other versions derive other ones from it. So every array of the model goes along, as
float64 in base64.
"""

import xml.etree.ElementTree as ET
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np

from epo_lightning.envs.allegro_kuka.env import AllegroKuka

_PARTS = ("qpos", "body_", "bvh_", "jnt_", "dof_", "geom_", "site_", "actuator_", "sensor_", "mocap_", "cam_")
"""What names of the arrays begin with; lights and textures are left to the text."""
_LATER = {"actuator_ctrlspec", "jnt_plasticadr", "jnt_springyield"}
"""What MuJoCo 3 does not know, or numbers otherwise; it plays no part here."""
_OPTIONS = ("timestep", "impratio", "tolerance", "ls_tolerance", "iterations", "ls_iterations", "ccd_tolerance")


def encoded(values: np.ndarray) -> str:
    """An array as float64, row by row, in base64."""
    return b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode()


def arrays(model: object) -> dict[str, np.ndarray]:
    """The arrays of a MjModel that matter, by name; flags are left to the text, as browsers cannot read them."""
    found = {}
    for name in dir(model):
        if name.startswith(_PARTS) and name not in _LATER:
            value = getattr(model, name)
            if isinstance(value, np.ndarray) and value.dtype.kind in "fi" and value.size:
                found[name] = value.copy()
    return found


def scene(env: AllegroKuka) -> dict[str, Any]:
    """The scene of `env`, with the object of its first environment: text, options and arrays."""
    model, _ = env.physics.snapshot(0)
    option = {name: getattr(model.opt, name) for name in _OPTIONS}
    return {
        "xml": portable(env.scene_xml()),
        "option": option,
        "arrays": {name: encoded(value) for name, value in arrays(model).items()},
    }


def portable(xml: str) -> str:
    """MJCF that MuJoCo 3 reads, too: it takes a drive's control for a position without being told."""
    root = ET.fromstring(xml)
    for drive in root.iterfind("actuator/general"):
        if drive.get("input") == "pos":
            del drive.attrib["input"]
    return ET.tostring(root, encoding="unicode")


def own_arrays(env: AllegroKuka, base: Mapping[str, str]) -> dict[str, str]:
    """Those arrays that are others than in `base`: the object of `env` is another one."""
    model, _ = env.physics.snapshot(0)
    own = {name: encoded(value) for name, value in arrays(model).items()}
    return {name: text for name, text in own.items() if text != base[name]}
