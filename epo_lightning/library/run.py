"""A run folder, for a caller in Python."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from epo_lightning.library.command import invoked
from epo_lightning.library.policy import Agents, Policy
from epo_lightning.library.settings import Settings
from epo_lightning.limits import Mistake
from epo_lightning.report.reading import Unusable, read_columns, read_lineage
from epo_lightning.report.statistics import Array
from epo_lightning.run.folder import RunFolder

if TYPE_CHECKING:
    from epo_lightning.cli.invocation import Invocation
    from epo_lightning.experience.evaluation import Summary
    from epo_lightning.experience.standings import Standings


class Run:
    """What a run left, or leaves while it goes on: `train` returns one, and `Run(path)` opens any.

    Args:
        folder: The run folder.

    Attributes:
        folder: The run folder.

    Raises:
        Mistake: When there is no run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files = RunFolder(self.folder)
        if not self._files.holds_run():
            raise Mistake(f"there is no run in {folder}")

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self._files.last

    @property
    def best(self) -> Path:
        """The checkpoint with the best return; there is none before all environments have finished an episode."""
        return self._files.best

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return dict(yaml.safe_load(self._files.config.read_text(encoding="utf-8")))

    @property
    def metrics(self) -> dict[str, Array]:
        """(T,) float64 of every metric, a value for each iteration, NaN where there was none.

        `pandas.DataFrame(run.metrics)` is the table.
        """
        try:
            return read_columns(self._files.metrics)
        except Unusable as reason:
            raise Mistake(str(reason)) from None

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """The generations: children, parents, elites, fitness; none of a run that does not evolve."""
        return list(read_lineage(self._files.lineage))

    def policy(self, agent: Agents | None = None, *, best: bool = False, device: str = "cpu", seed: int = 0) -> Policy:
        """Agents that act (see `Policy.load`).

        Args:
            agent: Who acts, for all rows or for each; None for the one that is evaluated, the master where there is
                one.
            best: Of the best checkpoint instead of the last.
            device: Where.
            seed: Of the noise of actions that are drawn.
        """
        return Policy.load(self.best if best else self.last, agent, device=device, seed=seed)

    def export(
        self,
        out: str | Path | None = None,
        *,
        best: bool = False,
        format: str = "onnx",
        agent: int | str | None = None,
        opset: int = 18,
        web: bool = False,
        env: object = None,
    ) -> Path:
        """Write the policy as a folder that needs no training stack, as `epo-lightning export` does (docs/export.md).

        Args:
            out: The folder; by default policy/ in the run folder.
            best: The best checkpoint instead of the last.
            format: onnx, torchscript or torch_export.
            agent: Whom it is for: a number, or `all`.
            opset: Version of ONNX's operators.
            web: Add a page in which it plays.
            env: The task again, where it was a function; see `train`.

        Returns:
            The folder.
        """
        target = self.folder / "policy" if out is None else Path(out)
        flags = [f"--ckpt_path={self.best if best else self.last}", f"--out={target}", f"--format={format}"]
        flags += [f"--opset={opset}", *([] if agent is None else [f"--agent={agent}"])]
        flags += ["--web"] if web else []
        with invoked("export", None, None, flags, env) as invocation:
            invocation.function(invocation, **invocation.arguments)
        return target

    def evaluate(
        self, settings: Settings | None = None, *, best: bool = False, protocol: bool = False, env: object = None
    ) -> "dict[str, Summary]":
        """Play complete episodes of the master without noise, as `epo-lightning validate` and `test` do.

        Args:
            settings: What differs from the run's configuration, such as `{"data.eval_episodes": 500}`.
            best: The best checkpoint instead of the last.
            protocol: In the environments of `data.eval_seeds`, alike for every run: the number for a table.
            env: The task again, where it was a function; see `train`.

        Returns:
            Mean and standard errors of `return`, `length` and `successes`.
        """
        with self._evaluated(settings, [], best=best, protocol=protocol, env=env) as invocation:
            return dict(invocation.model.evaluation)

    def evaluate_agents(
        self,
        agents: str | int | Sequence[int] = "all",
        settings: Settings | None = None,
        *,
        noise: bool = False,
        best: bool = False,
        protocol: bool = False,
        env: object = None,
    ) -> "dict[str, Standings]":
        """Play complete episodes of several agents side by side, as `epo-lightning validate --agents` does.

        Args:
            agents: Their numbers; by default all.
            settings: See `evaluate`.
            noise: With drawn actions, as in training, too.
            best: See `evaluate`.
            protocol: See `evaluate`.
            env: See `evaluate`.

        Returns:
            `mean`: by mean actions; with `noise` also `drawn`.
        """
        named = str(agents) if isinstance(agents, str | int) else ",".join(map(str, agents))
        flags = [f"--agents={named}", f"--noise={str(noise).lower()}"]
        with self._evaluated(settings, flags, best=best, protocol=protocol, env=env) as invocation:
            return dict(invocation.model.standings)

    @contextlib.contextmanager
    def _evaluated(
        self, settings: Settings | None, flags: list[str], *, best: bool, protocol: bool, env: object
    ) -> "Iterator[Invocation]":
        """A command that has evaluated."""
        flags = [f"--ckpt_path={self.best if best else self.last}", *flags]
        with invoked("test" if protocol else "validate", None, settings, flags, env) as invocation:
            if invocation.function(invocation, **invocation.arguments):
                raise KeyboardInterrupt
            yield invocation
