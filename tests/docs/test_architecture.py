"""The page on architecture: its floors are those that the import test holds, and what it names exists."""

import ast
import pkgutil
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()


def blocks() -> list[str]:
    return re.findall(r"^```\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_floors_stand_in_the_order_of_the_import_test() -> None:
    tree = ast.parse((ROOT / "tests" / "system" / "test_imports.py").read_text())
    (floors,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS"
    )
    drawn = re.findall(r"^   (\w+)  ", blocks()[0], flags=re.MULTILINE)
    assert drawn[::-1] == floors


def test_files_of_the_iteration_exist() -> None:
    files = set(re.findall(r"\b(\w+/[\w/]+\.py)\b", "".join(blocks()[1:3])))
    assert len(files) > 10
    assert [file for file in sorted(files) if not (ROOT / "epo_lightning" / file).is_file()] == []


def test_the_files_of_an_algorithm_exist() -> None:
    rows = re.findall(r"^\| `(algorithm|learner|experience|modules)` \| (`\w+\.py`.*) \|$", TEXT, flags=re.MULTILINE)
    files = [f"{floor}/{name}" for floor, names in rows for name in re.findall(r"`(\w+\.py)`", names)]
    assert len(files) == 10
    assert [file for file in files if not (ROOT / "epo_lightning" / file).is_file()] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(epo_lightning\.[\w.]+)`", TEXT))))
def test_dotted_names_exist(name: str) -> None:
    assert pkgutil.resolve_name(name) is not None


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("modules/epo.py", {"EPOModule", "experience", "update"}),
        ("modules/base.py", {"PopulationModule", "PopulationCallback", "replace_agents", "configure_model"}),
        ("modules/stepper.py", {"Stepper", "step"}),
        ("modules/off_policy.py", {"OffPolicyModule", "update"}),
        ("modules/sac.py", {"SACModule", "values_loss"}),
        ("experience/n_step.py", {"NStepBuffer", "MixedReplayDataset"}),
        ("experience/off_policy.py", {"ReplayDataset"}),
        ("experience/replay.py", {"ReplayBuffer", "insert", "draw", "gather"}),
        ("algorithm/sac.py", {"critic_targets", "actor_loss", "polyak_average"}),
        ("algorithm/q_values.py", {"ScalarValues", "CategoricalValues"}),
        ("learner/q_networks.py", {"SquashedActor"}),
        ("modules/data.py", {"RolloutDataModule", "setup"}),
        ("experience/on_policy.py", {"OnPolicyDataset", "collect"}),
        ("experience/targets.py", {"Targets", "complete"}),
        ("experience/buffer.py", {"RolloutBuffer", "minibatches"}),
        ("algorithm/advantages.py", {"gae_targets", "n_step_targets"}),
        ("algorithm/aggregation.py", {"sample_followers", "relabel"}),
        ("algorithm/genetics.py", {"evolve"}),
        ("algorithm/crossover.py", {"Crossover", "Average", "Uniform", "KPoint"}),
        ("algorithm/losses.py", {"hybrid_loss", "LossSettings"}),
        ("learner/optimizer.py", {"clip_gradients", "adapt_learning_rate"}),
        ("run/run_checkpoints.py", {"RunCheckpoints"}),
        ("cli/entry.py", {"main"}),
        ("cli/arguments.py", {"resolve"}),
        ("cli/commands.py", {"Command", "RunCommand"}),
        ("cli/invocation.py", {"Invocation"}),
        ("cli/algorithm.py", {"choose_algorithm"}),
    ],
)
def test_who_is_called_is_defined_there(file: str, names: set[str]) -> None:
    tree = ast.parse((ROOT / "epo_lightning" / file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert names <= defined
    assert all(name in TEXT for name in names)
