"""An exported folder: `policy.yaml` and the file that it names, read and checked."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

FORMAT, LAYOUT = "epo-policy", 1
"""What `policy.yaml` begins with."""
MANIFEST, MODEL = "policy.yaml", "policy.onnx"


class PolicyError(ValueError):
    """What the caller gave cannot be used: one line that says what would be right."""


class Memory(NamedTuple):
    """What is carried from step to step.

    Attributes:
        input: Its name.
        output: The name of what it is after the step.
        shape: Of one row.
    """

    input: str
    output: str
    shape: tuple[int, ...]


class Manifest(NamedTuple):
    """What the runner needs of `policy.yaml`.

    Attributes:
        task: Name of the task.
        obs_dim: O.
        act_dim: A, or how many choices there are.
        discrete: An action is a choice.
        entries: Names and sizes of the parts of an observation, in order.
        who: The input that says which agent acts, `gene` or `agent`; None where there is one.
        default: The agent that acts where nobody is named.
        names: K names.
        genes: K rows of Z numbers; empty without genes.
        memory: What is carried from step to step.
        rate_hz: Actions in a second; None where the task has no clock.
        whole: All of the file.
    """

    task: str
    obs_dim: int
    act_dim: int
    discrete: bool
    entries: list[tuple[str, int]]
    who: str | None
    default: int
    names: list[str]
    genes: list[list[float]]
    memory: list[Memory]
    rate_hz: float | None
    whole: dict[str, Any]


def read_manifest(folder: Path) -> Manifest:
    """The content of `policy.yaml`.

    Raises:
        PolicyError: When there is none, or it is not one.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{folder} is no exported policy: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path} is no text") from None
    try:
        told = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise PolicyError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise PolicyError(f"{path} was not written by `epo-lightning export`: it has no `format: {FORMAT}`")
    if told.get("layout") != LAYOUT:
        raise PolicyError(f"{path} has layout {told.get('layout')}, this epo_runtime reads {LAYOUT}: update it")
    try:
        return _manifest(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PolicyError(f"{path} is not as `export` wrote it ({type(error).__name__}: {error})") from None


def _manifest(told: dict[str, Any]) -> Manifest:
    observation, action, population = told["observation"], told["action"], told["population"]
    return Manifest(
        str(told["task"]),
        int(observation["size"]),
        int(action["size"]),
        action["kind"] == "choice",
        [(str(entry["name"]), int(entry["size"])) for entry in observation["entries"]],
        population["input"],
        int(population["default"]),
        [str(name) for name in population["agents"]],
        [[float(number) for number in gene] for gene in population.get("genes", [])],
        [Memory(str(each["input"]), str(each["output"]), tuple(each["shape"])) for each in told["memory"]],
        told["control"]["rate_hz"],
        told,
    )
