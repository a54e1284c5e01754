"""An Allegro-Kuka task on a page: physics by MuJoCo's build for browsers, everything else by the task's own code.

The rules are files of ONNX. The scene is the run's, number for number. Recorded steps tell how far another build of the
physics moves the scene apart in one control step.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import distribution, version
from math import radians
from pathlib import Path
from typing import Any, ClassVar

from epo_lightning.envs.allegro_kuka.appearance import CAMERA
from epo_lightning.envs.allegro_kuka.cards import Card
from epo_lightning.envs.allegro_kuka.env import AllegroKuka
from epo_lightning.envs.allegro_kuka.memory import Memory
from epo_lightning.envs.allegro_kuka.task import KEYPOINT_STRETCH
from epo_lightning.envs.base import EnvSpec
from epo_lightning.export.allegro_kuka.rehearsal import Clip, rehearse, told
from epo_lightning.export.allegro_kuka.rules import packed, write_rules
from epo_lightning.export.allegro_kuka.scene import own_arrays, scene
from epo_lightning.export.page import ACTIONS, PHYSICS, RULES, Shown
from epo_lightning.export.parity import LARGEST
from epo_lightning.export.web_runtime import MUJOCO
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake
from epo_lightning.physics.mujoco import BAD_STATE, MujocoPhysics

STEPS = 120
"""That are recorded of an agent at most: two seconds."""
CLIPS = 4
"""Episodes that are recorded, each of another agent where there are so many, and with an object of its own."""
_LICENSE = "MUJOCO_LICENSE.txt"
MOVED = 1e-6
"""What the physics may be apart after one control step from the same state: m, rad, m/s, rad/s, or that share of it."""


class KukaShown(Shown):
    """One of the tasks.

    Args:
        envs: The task with one environment each, on the CPU, with other seeds: objects of the page.
    """

    code = ("kuka.mjs", "view.mjs")
    packages = (MUJOCO,)
    allowed: ClassVar[Mapping[str, float]] = {ACTIONS: LARGEST, RULES: LARGEST, PHYSICS: MOVED}

    def __init__(self, envs: Sequence[AllegroKuka]) -> None:
        self.envs = envs

    @staticmethod
    def require(env: AllegroKuka) -> None:
        """Refuse what a page cannot do.

        Raises:
            Mistake: Naming it.
        """
        if not isinstance(env.physics, MujocoPhysics):
            raise Mistake("--web needs data.env.init_args.physics: mujoco, which browsers have a build of")
        if env.randomized:
            raise Mistake(
                "--web: there is no page with data.env.init_args.randomization; give null, and it shows the scene as"
                " it is"
            )

    @property
    def spec(self) -> EnvSpec:
        """See `Shown`."""
        return self.envs[0].spec

    def write(self, folder: Path, opset: int) -> dict[str, Any]:
        """See `Shown`."""
        (folder / _LICENSE).write_text(_license(), encoding="utf-8")
        functions = write_rules(self.envs[0], opset, folder)
        return {
            "rules": {
                name: {"inputs": each.inputs, "draws": [draw._asdict() for draw in each.draws]}
                for name, each in functions.items()
            }
        }

    def content(self, policy: Policy, agents: Sequence[int]) -> dict[str, Any]:
        """See `Shown`."""
        env = self.envs[0]
        card, model, physics = env.rules.card, env.physics.model, env.physics
        assert isinstance(physics, MujocoPhysics)
        base = scene(env)
        objects = [
            {
                "scales": each.rules.scales[0].tolist(),
                "memory": packed(each.rules.memory)[0].tolist(),
                "arrays": own_arrays(each, base["arrays"]),
            }
            for each in self.envs
        ]
        players = [agents[place % len(agents)] for place in range(len(self.envs))]
        clips = [rehearse(each, policy, agent, STEPS) for each, agent in zip(self.envs, players, strict=True)]
        return {
            "scene": base,
            "objects": objects,
            "rehearsal": [told(clip, players[place], place) for place, clip in enumerate(clips)],
            "sizes": _sizes(clips),
            "mujoco": version("mujoco"),
            "decimation": physics.decimation,
            "bad_state": [*range(BAD_STATE.start, BAD_STATE.stop)],
            "joints": card.joints,
            "object_body": model.body("object").id,
            "replace_object": card.replace_object,
            "many_successes": True,
            "camera": _camera(env),
            **_goal(card, env),
        }


def _license() -> str:
    """Of MuJoCo and what is in it, as it comes with the installed one: browsers' archive has none."""
    installed = distribution("mujoco")
    texts = (installed.read_text(f"licenses/{name}") for name in ("LICENSE", "LICENSES_THIRD_PARTY.md"))
    return "\n\n".join(text for text in texts if text)


def _sizes(clips: Sequence[Clip]) -> dict[str, int]:
    series = [clip.series for clip in clips if clip.draws]
    if not series:
        raise Mistake("--web: every recorded episode ends at its first step: there is nothing to compare a page with")
    return {name: values.shape[1] for name, values in series[0].items()}


def _goal(card: Card, env: AllegroKuka) -> dict[str, Any]:
    """Where the memory tells the goal, and how near counts as there; with one keypoint."""
    memory = env.rules.memory
    before = Memory._fields.index("goal_keypoints")
    field = sum(each[0].numel() for each in memory[:before])
    radius = KEYPOINT_STRETCH * env.rules.tolerance if card.keypoints == 1 else 0.0
    return {"goal_radius": radius, "goal_field": field}


def _camera(env: AllegroKuka) -> dict[str, Any]:
    """Where the scene's camera stands, what it looks at, and how wide (rad)."""
    model = env.physics.model
    camera = model.camera(CAMERA)
    back = model.cam_mat0[camera.id].reshape(3, 3)[:, 2]
    # it looks at the point above the table's edge
    distance = float((camera.pos[2] - 0.7) / back[2])
    farther = 0.3 * distance if env.rules.card.arms == 2 else 0.0  # what hands do at the sides is worth seeing here
    return {
        "position": (camera.pos + farther * back).tolist(),
        "target": (camera.pos - distance * back).tolist(),
        "angle": radians(float(camera.fovy[0])),
    }
