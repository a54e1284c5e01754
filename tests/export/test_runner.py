"""`epo_runtime` acts on one observation or many, keeps the memory, lets anybody act, and refuses the rest."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epo_lightning.learner.networks import LatentActorCritic
from epo_runtime import Policy, PolicyError
from tests.support.exported import ACT, AGENTS, OBS, export_to, make, observations

ROOT = Path(__file__).parents[2]
OBSERVED = observations(AGENTS, 3).numpy()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A population with genes and a memory."""
    folder = tmp_path_factory.mktemp("memory")
    export_to(folder, make("epo lstm"))
    return folder


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A population of agents without genes, whose actions are choices."""
    folder = tmp_path_factory.mktemp("choices")
    export_to(folder, make("pbt choice"))
    return folder


def test_one_observation_gives_one_action_and_several_give_several(memory: Path, choices: Path) -> None:
    policy = Policy.load(memory)
    actions = policy.act(OBSERVED)
    assert (actions.shape, actions.dtype) == ((AGENTS, ACT), np.float32)
    policy.reset()
    one = policy.act(OBSERVED[1].tolist())
    np.testing.assert_allclose(one, actions[1], atol=1e-6)
    chooser = Policy.load(choices)
    assert chooser.discrete
    number = chooser.act(OBSERVED[0])
    assert isinstance(number, np.integer)
    assert 0 <= number < ACT
    assert chooser.act(OBSERVED).shape == (AGENTS,)
    assert chooser.outputs(OBSERVED)["logits"].shape == (AGENTS, ACT)


def test_it_says_what_it_is(memory: Path, choices: Path) -> None:
    policy = Policy.load(str(memory))
    assert (policy.task, policy.obs_dim, policy.act_dim, policy.rate_hz) == ("Task", OBS, ACT, 20.0)
    assert policy.names == ["master", "follower 1", "follower 2", "follower 3"]
    assert policy.genes.shape == (AGENTS, 3)
    assert policy.entries == [("position", 1), ("velocity", 3)]
    assert policy.manifest["action"]["entries"][0] == {"name": "force", "size": ACT, "unit": "N"}
    chooser = Policy.load(choices)
    assert chooser.names == ["agent 0", "agent 1", "champion", "agent 3"]
    assert chooser.genes.size == 0


def test_genes_are_those_of_the_network_to_the_bit(memory: Path) -> None:
    network = make("epo lstm").policy
    assert isinstance(network, LatentActorCritic)
    np.testing.assert_array_equal(Policy.load(memory).genes, network.genes.detach().numpy())


def test_memory_is_kept_and_begins_anew_where_an_episode_does(memory: Path) -> None:
    policy = Policy.load(memory)
    first, second = policy.act(OBSERVED), policy.act(OBSERVED)
    assert not np.array_equal(first, second)
    policy.reset([True, False, False, False])
    third = policy.act(OBSERVED)
    np.testing.assert_allclose(third[0], first[0], atol=1e-6)
    assert not np.allclose(third[1], second[1], atol=1e-6)
    policy.reset()
    np.testing.assert_allclose(policy.act(OBSERVED), first, atol=1e-6)
    with pytest.raises(PolicyError, match=r"observations had 4 rows, now 1: reset\(\)"):
        policy.act(OBSERVED[0])
    with pytest.raises(PolicyError, match=r"done must have shape \(4,\), as the observations; got \(1,\)"):
        policy.reset([True])


def test_an_agent_is_its_gene_and_any_other_gene_acts_too(memory: Path) -> None:
    policy = Policy.load(memory)
    each = Policy.load(memory, agent=range(AGENTS)).act(OBSERVED)
    for agent in range(AGENTS):
        policy.reset()
        policy.choose(agent)
        np.testing.assert_allclose(policy.act(OBSERVED)[agent], each[agent], atol=1e-6)
        by_gene = Policy.load(memory, gene=policy.genes[agent])
        np.testing.assert_allclose(by_gene.act(OBSERVED)[agent], each[agent], atol=1e-6)
    np.testing.assert_allclose(Policy.load(memory, gene=policy.genes).act(OBSERVED), each, atol=1e-6)
    policy.reset()
    policy.set_gene(0.5 * (policy.genes[0] + policy.genes[1]))
    assert not np.allclose(policy.act(OBSERVED)[0], each[0], atol=1e-4)


def test_it_and_the_policy_of_torch_do_the_same(memory: Path) -> None:
    from epo_lightning import Policy as WithTorch
    from epo_lightning.modules.identity import Identity

    network, identity = make("epo lstm").policy, Identity("epo", "Task", OBS, ACT, False, {})
    gene = [0.1, -0.2, 0.3]
    for without, with_torch in (
        (Policy.load(memory), WithTorch(network, identity)),
        (Policy.load(memory, agent=2), WithTorch(network, identity, 2)),
        (Policy.load(memory, gene=gene), WithTorch(network, identity, gene=gene)),
    ):
        for _ in range(3):
            np.testing.assert_allclose(without.act(OBSERVED), with_torch.act(OBSERVED), atol=1e-6)
            without.reset([False, True, False, False])
            with_torch.reset([False, True, False, False])


def test_the_parts_of_an_observation_may_come_by_name(memory: Path) -> None:
    policy, whole = Policy.load(memory), Policy.load(memory)
    parts = {"velocity": OBSERVED[:, 1:], "position": OBSERVED[:, :1]}
    np.testing.assert_array_equal(policy.act(parts), whole.act(OBSERVED))
    for wrong, fault in (
        ({"position": [0.0]}, "has no 'velocity'; Task has position, velocity"),
        ({**parts, "speed": [0.0]}, "an observation of Task has no 'speed'; it has position, velocity"),
        ({"position": [0.0], "velocity": [0.0]}, r"velocity of the observation has shape \(3,\) or .*; got \(1,\)"),
        ({"position": [0.0], "velocity": np.zeros((2, 3))}, "different rows"),
        ({"position": ["x"], "velocity": np.zeros(3)}, "the observation's position must be numbers, got list"),
    ):
        with pytest.raises(PolicyError, match=fault) as refusal:
            policy.act(wrong)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("obs", "fault"),
    [
        (np.zeros(5), r"an observation of Task has shape \(4,\), several have \(N, 4\); got \(5,\)"),
        (np.zeros((2, 3, 4)), r"got \(2, 3, 4\)"),
        (np.zeros((0, 4)), r"got \(0, 4\)"),
        (3.0, r"got \(\)"),
        (["a"] * 4, "must be numbers, got list"),
        (None, "is not finite|must be numbers"),
        ([0, 0, float("inf"), 0], "is not finite"),
    ],
)
def test_what_is_no_observation_is_one_line(memory: Path, obs: object, fault: str) -> None:
    with pytest.raises(PolicyError, match=fault) as refusal:
        Policy.load(memory).act(obs)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"agent": 9}, "there is no agent 9; they are 0 to 3"),
        ({"agent": -1}, "there is no agent -1"),
        ({"agent": "master"}, "agent must be a number, or one for each row; got 'master'"),
        ({"agent": []}, "agent must be a number"),
        ({"agent": 1.5}, "agent must be a number"),
        ({"agent": True}, "agent must be a number"),
        ({"gene": [0.0]}, r"a gene has shape \(3,\), several have \(N, 3\); got \(1,\)"),
        ({"gene": ["x"] * 3}, "gene must be numbers"),
        ({"gene": [0.0, 0.0, float("nan")]}, "gene is not finite"),
        ({"gene": [0.0] * 3, "agent": 1}, "an agent or a gene, not both"),
    ],
)
def test_who_cannot_act_is_one_line(memory: Path, arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(PolicyError, match=fault):
        Policy.load(memory, **arguments)


def test_rows_are_as_many_as_who_acts(memory: Path, choices: Path) -> None:
    with pytest.raises(PolicyError, match="3 agents act on as many observations, got 4"):
        Policy.load(memory, agent=[0, 1, 2]).act(OBSERVED)
    with pytest.raises(PolicyError, match="2 genes act on as many observations, got 4"):
        Policy.load(memory, gene=np.zeros((2, 3))).act(OBSERVED)
    with pytest.raises(PolicyError, match="has no gene: choose an agent"):
        Policy.load(choices, gene=[0.0] * 3)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("format: epo-policy", "format: other"), "was not written by `epo-lightning export`"),
        (("layout: 1", "layout: 9"), "has layout 9, this epo_runtime reads 1: update it"),
        (("population:", "people:"), "is not as `export` wrote it"),
        (("format: epo-policy", "format: [epo-policy"), "is no YAML"),
        (("input: gene", "input: agent"), "is not the file that .*policy.yaml tells of"),
        (("size: 4", "size: 5"), "is not the file that .*policy.yaml tells of"),
    ],
)
def test_a_folder_that_was_changed_is_one_line(
    memory: Path, tmp_path: Path, change: tuple[str, str], fault: str
) -> None:
    shutil.copytree(memory, tmp_path / "policy")
    manifest = tmp_path / "policy" / "policy.yaml"
    text = manifest.read_text()
    assert change[0] in text
    manifest.write_text(text.replace(*change, 1))
    with pytest.raises(PolicyError, match=fault) as refusal:
        Policy.load(tmp_path / "policy")
    assert "\n" not in str(refusal.value)


def test_a_folder_that_is_none_is_one_line(memory: Path, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"is no exported policy: .*No such file"):
        Policy.load(tmp_path)
    shutil.copy(memory / "policy.yaml", tmp_path)
    with pytest.raises(PolicyError, match=r"there is no .*policy.onnx: export with --format onnx"):
        Policy.load(tmp_path)
    (tmp_path / "policy.onnx").write_bytes(b"no network")
    with pytest.raises(PolicyError, match=r"policy.onnx cannot be loaded") as refusal:
        Policy.load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_it_needs_no_torch(memory: Path) -> None:
    code = f"""
        import sys
        sys.modules["torch"] = sys.modules["epo_lightning"] = None  # who imports them fails
        from epo_runtime import Policy
        policy = Policy.load({str(memory)!r})
        print(policy.act([0.0] * {OBS}).shape)
        print(sorted(name for name in ("lightning", "mujoco", "onnx", "jsonargparse") if name in sys.modules))
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, f"({ACT},)\n[]\n"), done.stderr
