"""A policy that acts.

Shape legend: N rows, O observation entries, A action entries, K agents, Z gene entries.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import onnxruntime
except ModuleNotFoundError:
    raise ModuleNotFoundError("epo_runtime needs onnxruntime: pip install onnxruntime") from None

from epo_runtime.folder import MODEL, Manifest, PolicyError, read_manifest

_ERRORS_ONLY = 3


class Policy:
    """One agent, or one per row, that acts on observations as its task gives them; `Policy.load` makes one.

    The normaliser is in the file, and so is the clipping of the actions: give raw observations, hand the actions on. A
    memory (LSTM) is kept from call to call: `reset` it where an episode begins.

    Args:
        manifest: What `policy.yaml` says.
        session: The file.

    Attributes:
        task: Name of the task.
        obs_dim: O.
        act_dim: A, or how many choices there are.
        discrete: Whether an action is a choice.
        entries: Names and sizes of the parts of an observation, in order.
        names: K names of the agents; `agent` is one's number here.
        genes: (K, Z) float32 of all agents; (0, 0) without genes.
        rate_hz: Actions in a second; None where the task has no clock.
        manifest: All of `policy.yaml`.
    """

    def __init__(self, manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
        self.task, self.obs_dim, self.act_dim = manifest.task, manifest.obs_dim, manifest.act_dim
        self.discrete, self.entries, self.names = manifest.discrete, manifest.entries, manifest.names
        self.rate_hz, self.manifest = manifest.rate_hz, manifest.whole
        self.genes = np.array(manifest.genes or np.zeros((0, 0)), np.float32)
        self._who, self._memory, self._session = manifest.who, manifest.memory, session
        self._outputs = [each.name for each in session.get_outputs()]
        self._is_single = False
        self._state: list[npt.NDArray[np.float32]] | None = None
        self._gene: npt.NDArray[np.float32] | None = None
        self._agents: npt.NDArray[np.int64] | None = None
        self._default = manifest.default

    @classmethod
    def load(cls, folder: str | Path, agent: Any = None, gene: Any = None, threads: int = 1) -> "Policy":  # noqa: ANN401
        """The policy in a folder that `epo-lightning export` has written.

        Args:
            folder: It.
            agent: Who acts: a number, or one for each row; None for the one whom the export was made for.
            gene: (Z,) or (N, Z), instead of an agent's: any behaviour that the population's genes span.
            threads: Of onnxruntime; small networks are fastest with one.

        Raises:
            PolicyError: When there is no such policy, agent or gene.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        path = folder / MODEL
        if not path.is_file():
            raise PolicyError(f"there is no {path}: export with --format onnx, which this runner reads")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a type for each of its codes, all of them Exceptions
            raise PolicyError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from None
        _require_same(path, manifest, session)
        policy = cls(manifest, session)
        if agent is not None and gene is not None:
            raise PolicyError("give an agent or a gene, not both")
        if agent is not None:
            policy.choose(agent)
        if gene is not None:
            policy.set_gene(gene)
        return policy

    def choose(self, agent: Any) -> None:  # noqa: ANN401  (an array, a list or a number)
        """Let an agent act from now on.

        Args:
            agent: Its number, or one for each row.

        Raises:
            PolicyError: When there is no such agent in the file.
        """
        numbers = np.atleast_1d(np.asarray(agent))
        if numbers.ndim > 1 or not numbers.size or not np.issubdtype(numbers.dtype, np.integer):
            raise PolicyError(f"agent must be a number, or one for each row; got {agent!r}")
        count = len(self.names)
        for number in numbers.tolist():
            if not 0 <= number < count:
                raise PolicyError(f"there is no agent {number}; they are 0 to {count - 1}")
            if self._who is None and number != self._default:
                raise PolicyError(
                    f"only agent {self._default} is in this file: export with --agent {number}, or --agent all"
                )
        self._agents, self._gene = numbers.astype(np.int64), None

    def set_gene(self, gene: Any) -> None:  # noqa: ANN401  (an array or a list)
        """Let a gene act from now on, one of the population or any other.

        Args:
            gene: (Z,), or (N, Z) for N rows.

        Raises:
            PolicyError: When it has another length, or this policy has no genes.
        """
        if self._who != "gene":
            raise PolicyError(f"this policy of {self.task} has no gene: choose an agent")
        size = self.genes.shape[1]
        given = _numbers(gene, "gene")
        if given.ndim not in (1, 2) or given.shape[-1] != size or not given.size:
            raise PolicyError(f"a gene has shape ({size},), several have (N, {size}); got {given.shape}")
        self._gene, self._agents = np.atleast_2d(given), None

    def reset(self, done: Any = None) -> None:  # noqa: ANN401  (an array or a list)
        """Forget the episode.

        Args:
            done: (N,) which rows begin a new one; None for all.

        Raises:
            PolicyError: When it is not as long as the observations were.
        """
        if done is None or self._state is None:
            self._state = None
            return
        rows = np.asarray(done, bool)
        if rows.shape != (len(self._state[0]),):
            raise PolicyError(f"done must have shape ({len(self._state[0])},), as the observations; got {rows.shape}")
        self._state = [np.where(rows.reshape(-1, *[1] * (part.ndim - 1)), np.float32(0), part) for part in self._state]

    def act(self, obs: Any) -> Any:  # noqa: ANN401  (arrays, lists, or a mapping of them)
        """The likeliest action, as the task takes it.

        Args:
            obs: (O,) or (N, O), raw; or a mapping with an array for each of `entries`.

        Returns:
            (A,) or (N, A) float32 in [-1, 1]; the number, or (N,) numbers, of choices.

        Raises:
            PolicyError: When the observation has other names or another shape, is no finite number, or has other rows
                than before.
        """
        actions = self.outputs(obs)["action"]
        return actions[0] if self._is_single else actions

    def outputs(self, obs: Any) -> dict[str, npt.NDArray[Any]]:  # noqa: ANN401  (as `act`)
        """Everything that the file says of an observation, each (N, ...): `action`, `logits` of choices, the memory.

        Args:
            obs: See `act`; the memory goes on as there.

        Raises:
            PolicyError: See `act`.
        """
        given = self._joined(obs) if isinstance(obs, Mapping) else _numbers(obs, "the observation")
        if given.ndim not in (1, 2) or given.shape[-1] != self.obs_dim or not given.size:
            raise PolicyError(
                f"an observation of {self.task} has shape ({self.obs_dim},), several have (N, {self.obs_dim});"
                f" got {given.shape}"
            )
        self._is_single = given.ndim == 1
        said = self._run(np.atleast_2d(given))
        self._state = [said[each.output] for each in self._memory] if self._memory else None
        return said

    def _joined(self, obs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """The parts of an observation, one behind the other."""
        names = [name for name, _ in self.entries]
        for name in obs:
            if name not in names:
                raise PolicyError(f"an observation of {self.task} has no {name!r}; it has {', '.join(names)}")
        parts = []
        for name, size in self.entries:
            if name not in obs:
                raise PolicyError(f"the observation has no {name!r}; {self.task} has {', '.join(names)}")
            part = _numbers(obs[name], f"the observation's {name}")
            if part.ndim not in (1, 2) or part.shape[-1] != size:
                raise PolicyError(f"{name} of the observation has shape ({size},) or (N, {size}); got {part.shape}")
            parts.append(part)
        if len({part.shape[:-1] for part in parts}) > 1:
            raise PolicyError(f"the parts of the observation have different rows: {[part.shape for part in parts]}")
        return np.concatenate(parts, axis=-1)

    def _run(self, obs: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        rows = len(obs)
        state = self._state
        if state is None:
            state = [np.zeros((rows, *each.shape), np.float32) for each in self._memory]
        if state and len(state[0]) != rows:
            raise PolicyError(f"observations had {len(state[0])} rows, now {rows}: reset() before others act")
        for what, several in (("genes", self._gene), ("agents", self._agents)):
            if several is not None and len(several) not in (1, rows):
                raise PolicyError(f"{len(several)} {what} act on as many observations, got {rows}")
        agents = self._agents
        if self._who == "agent" and agents is not None and len(set(agents.tolist())) > 1:
            return self._by_agent(obs, state, agents)
        return self._call(obs, state, self._feed())

    def _feed(self) -> dict[str, npt.NDArray[Any]]:
        """What is said of who acts; nothing for the one whom the file was made for."""
        if self._gene is not None:
            return {"gene": self._gene}
        if self._agents is None or self._who is None:
            return {}
        return {"gene": self.genes[self._agents]} if self._who == "gene" else {"agent": self._agents[:1]}

    def _call(self, obs: Any, state: list[Any], who: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
        memory = {each.input: part for each, part in zip(self._memory, state, strict=True)}
        said = self._session.run(self._outputs, {"observation": obs, **memory, **who})
        return dict(zip(self._outputs, said, strict=True))

    def _by_agent(self, obs: Any, state: list[Any], agents: Any) -> dict[str, Any]:  # noqa: ANN401
        """The file takes one agent in a call: the rows of each agent together."""
        joined: dict[str, Any] = {}
        for agent in sorted(set(agents.tolist())):
            mine = np.flatnonzero(agents == agent)
            said = self._call(obs[mine], [part[mine] for part in state], {"agent": np.array([agent])})
            for name, part in said.items():
                whole = joined.setdefault(name, np.zeros((len(obs), *part.shape[1:]), part.dtype))
                whole[mine] = part
        return joined


def _numbers(given: Any, name: str) -> npt.NDArray[np.float32]:  # noqa: ANN401
    """Finite float32 numbers."""
    try:
        numbers = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise PolicyError(f"{name} must be numbers, got {type(given).__name__}") from None
    if not np.isfinite(numbers).all():
        raise PolicyError(f"{name} is not finite")
    return numbers


def _require_same(path: Path, manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
    """Refuse a file that is not the one that `policy.yaml` tells of."""
    given = {each.name: each.shape for each in (*session.get_inputs(), *session.get_overridable_initializers())}
    wanted = {"observation", *([manifest.who] if manifest.who else []), *(each.input for each in manifest.memory)}
    outputs = {each.name for each in session.get_outputs()}
    needed = {"action", *(each.output for each in manifest.memory)}
    if set(given) != wanted or not needed <= outputs or given["observation"][-1] != manifest.obs_dim:
        raise PolicyError(f"{path} is not the file that {path.parent / 'policy.yaml'} tells of: export again")
