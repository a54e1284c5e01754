"""Work on tensors that is recorded as a CUDA graph, and replayed with one launch instead of some hundreds.

A graph reads and writes the same memory every time. What changes from call to call is an input, which is copied there;
what stays where it is and changes in place (parameters, moments, the learning rate) is read as it is then.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Calls of each size that are made as they are before one is recorded: libraries choose kernels and get memory then."""

Tensors = tuple[Tensor, ...]
Work = Callable[..., Tensors]


class Recorded:
    """`work` as a graph for every size of its inputs; where it cannot be recorded, `work` itself, which one line says.

    Args:
        work: Of tensors, which gives tensors; it neither waits for the device nor draws random numbers.
        name: Of it, in that line.
        record: Makes a replay of one call; by default that of CUDA.
        aside: Makes a call as a recording needs those before it.
    """

    def __init__(
        self,
        work: Work,
        name: str,
        record: "Callable[[Work, Tensors], Work] | None" = None,
        aside: Callable[[Work, Tensors], Tensors] | None = None,
    ) -> None:
        self.work, self.name = work, name
        self._record, self._aside = record or record_cuda, aside or call_aside
        self._replays: dict[object, Work] = {}
        self._calls: dict[object, int] = {}
        self._failed = False

    def __call__(self, *inputs: Tensor) -> Tensors:
        """What `work` gives: tensors of their own, which the next call leaves alone."""
        if self._failed:
            return self.work(*inputs)
        size = torch.is_grad_enabled(), *((part.shape, part.dtype) for part in inputs)
        replay = self._replays.get(size)
        if replay is None:
            calls = self._calls[size] = self._calls.get(size, 0) + 1
            if calls <= WARM_UP:
                return self._aside(self.work, inputs)
            try:
                replay = self._replays[size] = self._record(self.work, inputs)
            except RuntimeError as error:
                self._failed = True
                self._replays.clear()
                reason = " ".join(str(error).split())
                warnings.warn(
                    f"model.cuda_graphs: {self.name} cannot be recorded and runs without a graph: {reason}",
                    stacklevel=2,
                )
                return self.work(*inputs)
        return replay(*inputs)


def record_cuda(work: Work, inputs: Tensors) -> Work:
    """Record one call of `work` on the present device, without making it."""
    own = tuple(part.detach().clone() for part in inputs)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    stream, generator = torch.cuda.current_stream(), torch.cuda.default_generators[torch.cuda.current_device()]
    drawn = generator.clone_state()
    try:
        with torch.cuda.graph(graph):
            results = work(*own)
    except RuntimeError:  # torch leaves both as they are while it records: nothing could be drawn any more
        torch.cuda.set_stream(stream)
        generator.graphsafe_set_state(drawn)
        raise

    def replay(*inputs: Tensor) -> Tensors:
        for mine, given in zip(own, inputs, strict=True):
            mine.copy_(given)
        graph.replay()
        return tuple(part.detach().clone() for part in results)

    return replay


def call_aside(work: Work, inputs: Tensors) -> Tensors:
    """Call `work` on another stream, as those calls must be made that come before a recording."""
    present, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(present)
    with torch.cuda.stream(side):
        results = work(*inputs)
    present.wait_stream(side)
    for part in inputs:
        part.record_stream(side)
    for part in results:
        part.record_stream(present)
    return results


def why_without_graphs(device: torch.device, ranks: int, precision: str | None, compiled: bool = False) -> str:
    """Why nothing can be recorded there, in words; empty where it can."""
    if device.type != "cuda":
        return f"{device.type} has no CUDA graphs"
    if ranks > 1:
        return f"{ranks} ranks average their gradients between the kernels"
    if precision == "16-mixed":
        return "16-mixed looks at every step whether a gradient is finite; bf16-mixed does not"
    if compiled:
        return "what model.compile compiles cannot be recorded, and is slower"
    return ""
