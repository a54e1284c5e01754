"""The files: ONNX, TorchScript or `torch.export`, written from one module, and how each acts when it is read again.

Shape legend: N rows, O observation entries.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from epo_lightning.learner.policy import AsItActs
from epo_lightning.learner.standalone import GENE, NEXT, Standalone
from epo_lightning.limits import Mistake

if TYPE_CHECKING:
    import onnx

Format = Literal["onnx", "torchscript", "torch_export"]
FILES: Mapping[str, str] = {"onnx": "policy.onnx", "torchscript": "policy.pt", "torch_export": "policy.pt2"}
"""By format."""
OPSETS = range(18, 24)
"""Of ONNX: those that every network of this package has been exported with."""
_NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
_ROWS, _ROW, _GENE_ROWS = 2, "rows", "rows_or_1"


def require_format(name: str, opset: int) -> None:
    """Refuse what cannot be written here, before anything is computed.

    Raises:
        Mistake: With what to choose or to install.
    """
    if opset not in OPSETS:
        raise Mistake(f"--opset must be {OPSETS[0]} to {OPSETS[-1]}, got {opset}")
    missing = [package for package in _NEEDED.get(name, ()) if find_spec(package) is None]
    if missing:
        raise Mistake(f"--format {name} needs {' and '.join(missing)}: pip install 'epo-lightning[export]'")


def write(module: Standalone, name: str, obs_dim: int, opset: int, path: Path, notes: Mapping[str, str]) -> None:
    """Write `module` in the format `name`.

    Args:
        module: The policy, on the CPU.
        name: See `Format`.
        obs_dim: O.
        opset: Of ONNX.
        path: The file.
        notes: Names and texts, for readers of the file alone; ONNX keeps them.

    Raises:
        Mistake: When it is the network of somebody's own, which an exporter cannot follow.
    """
    example = [torch.zeros(_ROWS, obs_dim)]
    if module.who is not None:
        example.append(module.who.of(module.who.agent))
    example += [torch.zeros(_ROWS, *port.shape) for port in module.memory]
    try:
        with _quietly(), torch.no_grad():
            if name == "torchscript":
                torch.jit.save(torch.jit.trace(module, tuple(example), check_trace=False), str(path))
                return
            program = torch.export.export(module, tuple(example), dynamic_shapes=_shapes(module))
            if name == "torch_export":
                for node in program.graph.nodes:  # where in whose source it came from
                    node.meta.pop("stack_trace", None)
                torch.export.save(program, path)
            else:
                _write_onnx(module, program, opset, path, notes)
    except Exception as error:
        if not isinstance(module, AsItActs):
            raise
        why = next(iter(str(error).splitlines()), "")
        raise Mistake(
            f"export: {type(module.policy).__name__} cannot be written as {name} ({type(error).__name__}: {why}):"
            " give it a method standalone()"
        ) from error


def _shapes(module: Standalone) -> tuple[Any, ...]:
    """Which axes may have any length: the rows, of everything but of who acts."""
    rows = {0: torch.export.Dim(_ROW)}
    others = [*([None] if module.who is not None else []), *(rows for _ in module.memory)]
    return (rows, tuple(others)) if others else (rows,)


def _write_onnx(
    module: Standalone, program: torch.export.ExportedProgram, opset: int, path: Path, notes: Mapping[str, str]
) -> None:
    import onnx

    model = _converted(program, module.inputs, module.outputs, opset)
    graph, who = model.graph, module.who
    if who is not None:
        # an input with an initializer of the same name has that as its default
        graph.initializer.append(onnx.numpy_helper.from_array(who.of(who.agent).numpy(), who.name))
        if who.name == GENE:  # one for all rows, or one for each
            given = next(each for each in graph.input if each.name == who.name)
            given.type.tensor_type.shape.dim[0].dim_param = _GENE_ROWS
    for key, text in notes.items():
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _converted(
    program: torch.export.ExportedProgram, inputs: list[str], outputs: list[str], opset: int
) -> "onnx.ModelProto":
    """`program` as ONNX has it, without where in whose source it came from; every free axis is the rows."""
    made = torch.onnx.export(
        program, dynamo=True, opset_version=opset, input_names=inputs, output_names=outputs, verbose=False
    )
    assert made is not None
    model = made.model_proto
    graph = model.graph
    for node in graph.node:
        del node.metadata_props[:]
        node.ClearField("doc_string")
    del graph.value_info[:]
    for port in (*graph.input, *graph.output):
        for axis in port.type.tensor_type.shape.dim:
            if axis.dim_param:  # there is one length that is free
                axis.dim_param = _ROW
    return model


def write_rows(
    module: torch.nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    opset: int,
    path: Path,
    *,
    many: bool = True,
) -> None:
    """Write a function of rows, which is no policy, as ONNX.

    Args:
        module: On the CPU.
        example: What goes in, (2, ...) each.
        inputs: Their names.
        outputs: Names of what comes out.
        opset: Of ONNX.
        path: The file.
        many: Any number of rows, not as many as in `example`.
    """
    import onnx

    rows = {0: torch.export.Dim(_ROW)}
    with _quietly(), torch.no_grad():
        shapes = tuple(rows for _ in example) if many else None
        program = torch.export.export(module, example, dynamic_shapes=shapes)
        model = _converted(program, inputs, outputs, opset)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def write_without_default(source: Path, name: str | None, path: Path) -> None:
    """Copy an ONNX file; the input `name` must be given then: some runtimes take its default for a constant."""
    import onnx

    model = onnx.load(source)
    kept = [each for each in model.graph.initializer if each.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    path.write_bytes(model.SerializeToString())


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what exporters say of their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Runner(Protocol):
    """A file that acts."""

    def outputs(self, obs: np.ndarray) -> dict[str, Any]:
        """Everything that it says of (N, O), by name; its memory goes on."""

    def reset(self) -> None:
        """Forget the episode."""


class TorchFile:
    """A file that torch reads.

    Args:
        path: The file.
        module: What was written there.
        agent: Who acts; None: whom it was made for.
    """

    def __init__(self, path: Path, module: Standalone, agent: int | None = None) -> None:
        with _quietly():
            loaded = torch.jit.load(str(path)) if path.suffix == ".pt" else torch.export.load(path).module()
        self._call, self._ports, self._names = loaded, module.memory, module.outputs
        who = module.who
        self._who = None if who is None else who.of(who.agent if agent is None else agent)
        self._memory: list[Tensor] | None = None

    @torch.no_grad()
    def outputs(self, obs: np.ndarray) -> dict[str, Any]:
        """See `Runner`."""
        memory = self._memory or [torch.zeros(len(obs), *port.shape) for port in self._ports]
        who = [] if self._who is None else [self._who]
        said = dict(zip(self._names, self._call(torch.from_numpy(obs), *who, *memory), strict=True))
        self._memory = [said[port.name + NEXT] for port in self._ports]
        return {name: value.numpy() for name, value in said.items()}

    def reset(self) -> None:
        """See `Runner`."""
        self._memory = None
