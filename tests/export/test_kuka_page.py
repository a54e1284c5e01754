"""A page of an Allegro-Kuka task: its rules are the task's own code, its scene and its physics those of the run."""

import html
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from epo_lightning.envs.allegro_kuka import AllegroKuka
from epo_lightning.envs.allegro_kuka.randomization import Randomization
from epo_lightning.export.allegro_kuka import page as kuka_page
from epo_lightning.export.allegro_kuka.draws import Given, Noted
from epo_lightning.export.allegro_kuka.page import CLIPS, KukaShown
from epo_lightning.export.allegro_kuka.rules import Before, packed
from epo_lightning.export.allegro_kuka.scene import portable
from epo_lightning.export.formats import write
from epo_lightning.export.page import Page, compare_page
from epo_lightning.export.pages import shown
from epo_lightning.export.web_runtime import MUJOCO, ONNX, fetched, require_node
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.limits import Mistake
from epo_lightning.physics.mujoco import MujocoPhysics
from tests.support.browser import BROWSER, WEBGL, document, served

CPU = torch.device("cpu")
STEPS = 34


def env_of(count: int, later: int, **arguments: Any) -> AllegroKuka:
    """The regrasping task with small boxes, and goals that are reached wherever the object is."""
    env = AllegroKuka(count, CPU, later, task="single_arm_regrasp", objects="small", threads=1, **arguments)
    env.set_curriculum({"tolerance": 5.0})
    return env


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A page of an untrained population of two, and what it says of itself."""
    pytest.importorskip("onnxscript")
    try:
        require_node()
        fetched(ONNX)
        fetched(MUJOCO)
    except Mistake as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("page")
    task = shown(env_of, 2)
    torch.manual_seed(0)
    policy = LatentActorCritic(task.spec.seen, task.spec.act_dim, 2, NetworkSettings(hidden=(8,), gene_dim=3)).eval()
    module = policy.standalone(0, discrete=False, everybody=False).eval()
    write(module, "onnx", task.spec.seen, 18, folder / "policy.onnx", {})
    provenance = {"algorithm": "epo", "seed": 0, "env_steps": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kuka_page, "STEPS", STEPS)
        told = Page(task, policy, module, [0, 1], 18, provenance).write(folder)
    yield folder, told["page"]
    shutil.rmtree(folder)


def test_the_page_plays_what_the_task_played(written: tuple[Path, dict[str, Any]]) -> None:
    folder, told = written
    assert told["steps"] == CLIPS * STEPS
    assert 0 < told["task"] <= told["refused_above"]["task"] == 1e-5
    assert 0 < told["actions"] <= told["refused_above"]["actions"] == 1e-5
    assert 0 < told["physics"] <= told["refused_above"]["physics"] == 1e-6
    assert told["apart"]["with_the_same_actions"]["10"] < 1e-3
    assert told["mujoco"] == MUJOCO.version
    assert told["runtime"] == [ONNX.spec, MUJOCO.spec]
    content = json.loads((folder / "page" / "page.json").read_text())
    # a goal is reached with every 30th step, and the next one takes new draws: of the goal, the object, and the force
    counts = {len(draws) for clip in content["rehearsal"] for draws in clip["draws"]}
    assert counts == {4, 4 + 4 + 4 + 4}
    first, second, *_ = (each["scales"] for each in content["objects"])
    assert first != second
    assert "geom_size" in content["objects"][1]["arrays"]
    assert not content["objects"][0]["arrays"]


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_it_plays_in_a_browser_without_a_network(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with served(written[0]) as address:
        text = document(f"{address}?share=50&speed=5", tmp_path, 3000, WEBGL)
    said = re.search(r'data-parity="([^"]*)"', text)
    assert said, text[-2000:]
    far = json.loads(html.unescape(said.group(1)))
    assert far["steps"] == CLIPS * STEPS
    assert all(far[name] <= most for name, most in KukaShown.allowed.items())
    step = re.search(r'id="step">(\d+) of', text)
    assert step is not None
    assert int(step.group(1)) > 0
    assert "50 : 50" in text


def changed(written: tuple[Path, dict[str, Any]], folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the page with another content."""
    shutil.copytree(written[0], folder)
    file = folder / "page" / "page.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return folder


def test_another_physics_is_found(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    def slower(content: dict[str, Any]) -> None:
        content["scene"]["option"]["impratio"] = 1.0

    with pytest.raises(
        Mistake, match=r"MuJoCo 3\.14\.0 of the page and 4\..* of the run move it apart by .* than 1e-06"
    ):
        compare_page(changed(written, tmp_path / "page", slower), KukaShown.allowed)


def test_another_scene_is_found(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    def without_finger(content: dict[str, Any]) -> None:
        root = ET.fromstring(content["scene"]["xml"])
        drives = root.find("actuator")
        assert drives is not None
        drives.remove(drives[-1])
        content["scene"]["xml"] = ET.tostring(root, encoding="unicode")

    with pytest.raises(Mistake, match=r"the page does not run .*the scene of the page has other actuator_"):
        compare_page(changed(written, tmp_path / "page", without_finger), KukaShown.allowed)


def test_another_random_number_is_found(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    def other_start(content: dict[str, Any]) -> None:
        content["rehearsal"][1]["begin"][0] += 0.25

    with pytest.raises(Mistake, match="the page acts unlike the run: its task differs by"):
        compare_page(changed(written, tmp_path / "page", other_start), KukaShown.allowed)


def test_what_was_noted_and_is_given_again_makes_the_same_step() -> None:
    env = env_of(1, 0)
    env.reset()
    memory, state = packed(env.rules.memory), env.physics.state
    action = torch.linspace(-1, 1, env.spec.act_dim)[None]
    assert isinstance(env.physics, MujocoPhysics)
    sensors = torch.from_numpy(env.physics.batch.bind("sensordata")).float()
    with Noted() as noted:
        targets = env.rules.targets(action).clone()
        force = env.rules.forces(state.object_frame[:, :4])
    drawn = noted.take()
    assert len(drawn) == 4  # three of a force, one whether it comes
    assert noted.take() == []
    module = Before(env)
    velocity = torch.zeros(1, env.physics.model.nv)
    given = (env.rules.scales, memory, action, state.joint_pos, velocity, sensors, torch.zeros(1, 1))
    remembered, aimed, pushed = module(*given, torch.tensor([drawn]))
    assert torch.equal(aimed, targets)
    assert force is not None
    torch.testing.assert_close(pushed, force, rtol=0, atol=1e-7)
    assert torch.equal(remembered, packed(env.rules.memory))
    assert [(draw.kind, draw.size) for draw in module.drawn] == [("normal", 3), ("uniform", 1)]


def test_draws_are_taken_in_their_order() -> None:
    with Given(torch.arange(6.0)[None]) as source:
        pairs, more = torch.rand(2, 2), torch.randn(torch.Size([1]))
    assert pairs.tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert more.tolist() == [4.0]
    assert [tuple(draw) for draw in source.drawn] == [("uniform", 4), ("normal", 1)]


def test_the_text_of_the_scene_is_one_that_an_older_version_reads() -> None:
    text = portable('<mujoco><actuator><general name="a" input="pos"/><general input="vel"/></actuator></mujoco>')
    assert re.findall(r'input="\w+"', text) == ['input="vel"']


def test_what_a_page_cannot_do_is_refused() -> None:
    def varied(count: int, later: int) -> AllegroKuka:
        return env_of(count, later, randomization=Randomization(mass=(0.5, 2.0)))

    with pytest.raises(Mistake, match=r"no page with data\.env\.init_args\.randomization; give null"):
        shown(varied, 2)
    env = env_of(1, 0)
    env.physics.close()
    env.physics = cast("Any", object())  # of a GPU
    with pytest.raises(Mistake, match=r"--web needs data\.env\.init_args\.physics: mujoco"):
        KukaShown.require(env)
