"""What worlds of MuJoCo Warp take is estimated, and refused, before one is made."""

import pytest
import torch

pytest.importorskip("mujoco_warp")

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.cards import variant
from epo_lightning.envs.allegro_kuka.robot import GAINS
from epo_lightning.envs.allegro_kuka.scene import build_scene
from epo_lightning.learner import memory
from epo_lightning.limits import Mistake
from epo_lightning.physics.warp_memory import world_bytes

MEASURED = {"two_arm": 168, "two_arm_partition": 168, "single_arm_regrasp": 97, "single_arm_throw": 201}
"""KiB per environment, as `docs/gpu.md` has them: the most while an environment is built and stepped."""


@pytest.mark.parametrize("task", MEASURED)
def test_the_estimate_is_what_was_measured(task: str) -> None:
    model = build_scene(variant(task, None, False, None), GAINS["stiff"])
    default = world_bytes(model, 48, 160)
    assert 0.95 * MEASURED[task] < default / 1024 < 1.25 * MEASURED[task]
    assert world_bytes(model, 48, 320) > default + 160 * 4 * model.nv  # a row of the constraints' Jacobian each


def test_worlds_without_room_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**20)
    with pytest.raises(
        Mistake,
        match=r"^data\.num_envs 64 needs 7 MiB on cpu, where 1 MiB are free \(MuJoCo Warp, 1\d\d"
        r" KiB each\): lower it to at most 8$",
    ):
        AllegroKuka(64, torch.device("cpu"), 0, task="single_arm_regrasp", physics="warp")
