"""The file of a study: which configurations, which seeds, how many at a time."""

from dataclasses import dataclass
from pathlib import Path

from epo_lightning.documents.config_file import read_config
from epo_lightning.documents.keys import require_known
from epo_lightning.documents.plain_yaml import plain
from epo_lightning.limits import Mistake
from epo_lightning.run.folder import RUNS
from epo_lightning.sweep.methods import Method, read_methods
from epo_lightning.sweep.section import FindConfig
from epo_lightning.sweep.space import Space, read_space

_KEYS = ("out", "seeds", "jobs", "threads", "evaluate", "common", "tasks", "methods", "grid", "search")
_EVALUATIONS = ("validate", "test")
ALL_AGENTS, NOISE = "--agents all", "--noise"
"""What may stand behind the name of an evaluation."""


@dataclass(frozen=True)
class Study:
    """What the file says.

    Attributes:
        file: Where it says so.
        out: The study's folder.
        jobs: How many runs at a time; None: as many as there are cores for.
        threads: Of a run, where it computes on the CPU.
        evaluate: The command that follows each training, perhaps with `ALL_AGENTS` and `NOISE`, in this order; or None.
        methods: One or more, by task; of a search the only one, whose settings are completed by each trial.
        search: What is searched for, if anything is.
    """

    file: Path
    out: Path
    jobs: int | None
    threads: int
    evaluate: str | None
    methods: tuple[Method, ...]
    search: Space | None

    def told(self) -> str:
        """How much of what: `2 method(s) x 3 seed(s)`."""
        tasks, methods = ({*names} for names in zip(*((one.task, one.name) for one in self.methods), strict=True))
        many = " or ".join(map(str, sorted({len(method.seeds) for method in self.methods})))
        if tasks == {""}:
            return f"{len(methods)} method(s) x {many} seed(s)"
        return f"{len(tasks)} task(s), {len(methods)} method(s), {many} seed(s)"


def read_study(file: Path, find_config: FindConfig, *, is_packaged: bool = False) -> Study:
    """Read the file of a study, and check everything that needs no parser of configurations.

    Args:
        file: The file.
        find_config: What a name of a configuration means that is no file beside this one.
        is_packaged: It came with this package: what it writes goes to the working folder.

    Raises:
        Mistake: One line that names file, key and remedy.
    """
    content = plain(read_config(file, lambda _: False, "sweep").values)
    if "methods" not in content and {"parameters", "method"} <= content.keys():
        raise Mistake(f"{file} is for the agent of Weights & Biases: wandb sweep {file}")
    if not {"methods", "grid", "search"} & content.keys() and {"model", "data", "trainer", "base"} & content.keys():
        raise Mistake(f"{file} is a configuration of one run: fit --config {file}; a study has methods, grid or search")
    require_known(str(file), content, _KEYS)
    out = content.get("out")
    if out is not None and (not isinstance(out, str) or not out.strip()):
        raise Mistake(f"{file}: out must be a folder; got {out!r}")
    home = Path() if is_packaged else file.parent
    return Study(
        file=file,
        out=home / Path(out).expanduser() if out else RUNS / file.stem,
        jobs=_count(file, "jobs", content.get("jobs")) if content.get("jobs") is not None else None,
        threads=_count(file, "threads", content.get("threads", 1)),
        evaluate=_evaluation(file, content.get("evaluate")),
        methods=tuple(read_methods(file, content, find_config)),
        search=None if "search" not in content else read_space(f"{file}: search", content["search"]),
    )


def _evaluation(file: Path, given: object) -> str | None:
    """`validate --noise --agents=all` becomes `validate --agents all --noise`."""
    if given is None:
        return None
    command, *flags = str(given).replace("--agents=all", ALL_AGENTS).split() or [""]
    rest = f" {' '.join(flags)} "
    wanted = [flag for flag in (ALL_AGENTS, NOISE) if f" {flag} " in rest]
    if command not in _EVALUATIONS or len(flags) != sum(len(flag.split()) for flag in wanted):
        raise Mistake(
            f"{file}: evaluate must be validate or test, perhaps followed by {ALL_AGENTS} and {NOISE}, or be left out;"
            f" got {given!r}"
        )
    return " ".join([command, *wanted])


def _count(file: Path, key: str, given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise Mistake(f"{file}: {key} must be a number, at least 1; got {given!r}")
    return given
