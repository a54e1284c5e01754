"""Files act as the networks do that were written there, whichever algorithm it is, and say what they cannot hold."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from epo_lightning.export import formats
from epo_lightning.export.formats import FILES, OPSETS, TorchFile, require_format, write
from epo_lightning.learner.networks import LatentActorCritic
from epo_lightning.learner.policy import Policy as Network
from epo_lightning.limits import Mistake
from epo_runtime import Policy
from tests.support.exported import ACT, AGENTS, OBS, Kind, export_to, make, observations

ROWS = 5


def furthest(kind: Kind, runner: Policy | TorchFile, agents: torch.Tensor) -> float:
    """Largest difference of actions over some steps, with a memory that each keeps for itself."""
    state, worst = kind.policy.initial_state(len(agents)), 0.0
    for step in range(4):
        obs = observations(len(agents), step)
        actions, state = kind.policy.act(obs, agents, state)
        said = runner.outputs(obs.numpy())["action"]
        assert said.shape == tuple(actions.shape)
        worst = max(worst, float(np.abs(said.astype(float) - actions.numpy()).max()))
    return worst


@pytest.mark.parametrize(
    "name", ["epo separate", "epo lstm separate", "epo choice", "ppo", "pbt lstm choice", "cem_rl", "sac", "pql"]
)
def test_onnx_acts_as_the_network_one_agent_or_all(name: str, tmp_path: Path) -> None:
    kind = make(name)
    export_to(tmp_path, kind)
    champion = kind.policy.champion
    assert furthest(kind, Policy.load(tmp_path), torch.full((ROWS,), champion)) < 1e-5
    if kind.who is not None:
        for agent in (0, 3):
            assert furthest(kind, Policy.load(tmp_path, agent=agent), torch.full((ROWS,), agent)) < 1e-5
        mixed = torch.tensor([3, 0, 2, 0, 1])
        assert furthest(kind, Policy.load(tmp_path, agent=mixed.tolist()), mixed) < 1e-5


def test_onnx_of_one_agent_has_nobody_else(tmp_path: Path) -> None:
    kind = make("pbt lstm")
    export_to(tmp_path, kind, everybody=False)
    assert furthest(kind, Policy.load(tmp_path, agent=2), torch.full((ROWS,), 2)) < 1e-5
    with pytest.raises(ValueError, match="only agent 2 is in this file: export with --agent 1, or --agent all"):
        Policy.load(tmp_path, agent=1)


@pytest.mark.parametrize("form", ["torchscript", "torch_export"])
@pytest.mark.parametrize("name", ["epo lstm separate", "pbt choice"])
def test_the_files_of_torch_act_alike(form: str, name: str, tmp_path: Path) -> None:
    kind = make(name)
    module = export_to(tmp_path, kind, form)
    for agent in (None, 3):
        runner = TorchFile(tmp_path / FILES[form], module, agent)
        acting = torch.full((ROWS,), kind.policy.champion if agent is None else agent)
        assert furthest(kind, runner, acting) < 1e-6
        runner.reset()
        assert furthest(kind, runner, acting) < 1e-6


def test_onnx_names_its_inputs_has_defaults_and_tells_nothing_of_whose_machine_made_it(tmp_path: Path) -> None:
    kind = make("epo lstm")
    export_to(tmp_path, kind)
    model = onnx.load(tmp_path / "policy.onnx")
    assert [each.name for each in model.graph.input] == ["observation", "gene", "hidden", "cell"]
    assert [each.name for each in model.graph.output] == ["action", "hidden_out", "cell_out"]
    (gene,) = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "gene"]
    assert isinstance(kind.policy, LatentActorCritic)
    np.testing.assert_array_equal(gene, kind.policy.genes[:1].detach().numpy())
    axes = {each.name: each.type.tensor_type.shape.dim for each in model.graph.input}
    shapes = {name: [axis.dim_param or axis.dim_value for axis in shape] for name, shape in axes.items()}
    assert shapes["observation"] == ["rows", OBS]
    assert shapes["gene"] == ["rows_or_1", 3]
    assert {each.key: each.value for each in model.metadata_props} == {"task": "Task"}
    assert str(Path(formats.__file__).parents[1]).encode() not in (tmp_path / "policy.onnx").read_bytes()


def test_the_newest_opset_that_is_offered_works(tmp_path: Path) -> None:
    kind = make("epo lstm choice")
    export_to(tmp_path, kind, opset=OPSETS[-1])
    assert onnx.load(tmp_path / "policy.onnx").opset_import[0].version == OPSETS[-1]
    assert furthest(kind, Policy.load(tmp_path), torch.zeros(ROWS, dtype=torch.long)) < 1e-5


@pytest.mark.parametrize("opset", [17, 24, -1])
def test_another_opset_is_refused(opset: int) -> None:
    with pytest.raises(Mistake, match=rf"--opset must be 18 to 23, got {opset}"):
        require_format("onnx", opset)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name in ("onnx", "onnxruntime") else object())
    require_format("torchscript", 18)
    with pytest.raises(Mistake, match=r"needs onnx and onnxruntime: pip install 'epo-lightning\[export\]'"):
        require_format("onnx", 18)


class Unfollowed(Network):
    """Its act() depends on numbers, which no exporter follows."""

    num_agents = AGENTS

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(ACT))

    def initial_state(self, rows: int, device: torch.device | None = None) -> torch.Tensor:
        return torch.zeros(0, rows, 0)

    def act(
        self, obs: torch.Tensor, agent_ids: torch.Tensor, state: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        sign = 1.0 if obs.sum() > 0 else -1.0
        return sign * self.weight.detach().expand(len(obs), ACT), state


def test_a_network_of_ones_own_that_no_exporter_follows_is_one_line(tmp_path: Path) -> None:
    module = Unfollowed().standalone(0, discrete=False)
    with pytest.raises(
        Mistake, match=r"export: Unfollowed cannot be written as torch_export .*method standalone\(\)"
    ) as fault:
        write(module, "torch_export", OBS, 18, tmp_path / "policy.pt2", {})
    assert "\n" not in str(fault.value)
