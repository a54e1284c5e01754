"""`export`: a policy as a folder that needs no training stack."""

import contextlib
import shlex
from pathlib import Path
from typing import Any

import torch

from epo_lightning.cli.agents import ALL
from epo_lightning.cli.invocation import Invocation
from epo_lightning.envs.base import VectorEnv
from epo_lightning.experience.evaluation import fixed_difficulty
from epo_lightning.export.folder import require_free
from epo_lightning.export.formats import Format, require_format
from epo_lightning.export.page import Page, summary
from epo_lightning.export.parity import STEPS
from epo_lightning.export.policy_folder import Wanted, write_folder
from epo_lightning.export.recording import record
from epo_lightning.export.web_runtime import require_node
from epo_lightning.learner.policy import Policy
from epo_lightning.limits import Mistake
from epo_lightning.modules import contents
from epo_lightning.modules.identity import require_same_identity
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.checkpoint_contents import load_network
from epo_lightning.run.code import made_by, sessions_of
from epo_lightning.run.folder import RunFolder
from epo_lightning.run.history import Ancestor, now
from epo_lightning.run.secrets import without_secrets

_CPU = torch.device("cpu")
_PLAYERS = 8
"""Agents that are compared, where the file holds so many."""


def export(
    run: Invocation,
    out: str | None = None,
    format: Format = "onnx",
    agent: str | None = None,
    opset: int = 18,
    web: bool = False,
) -> int:
    """Write a policy as a folder that needs no training stack: the network, what its numbers mean, a parity record.

    Args:
        run: What the command line means.
        out: The folder; by default policy/ in the checkpoint's run folder, else in the working directory.
        format: onnx, which `epo_runtime` runs without torch; torchscript or torch_export, which torch loads.
        agent: Whom the file is for: a number, or all; by default the one that is evaluated (0, the master, where there
            is one). Agents that share a network are all in every file, by their genes.
        opset: Version of ONNX's operators, 18 to 23.
        web: Add a page, index.html, in which the policy plays in a browser and a slider moves between agents' genes;
            for points between walls and Allegro-Kuka tasks. It needs Node.js.
    """
    assert run.trained.path is not None
    require_format(format, opset)
    if web:
        if format != "onnx":
            raise Mistake(f"--web needs --format onnx, got {format}")
        require_node()
    path = Path(run.trained.path)
    home = RunFolder.of_checkpoint(path)
    target = Path(out).expanduser() if out else (home.path if home else Path()) / "policy"
    require_free(target)
    checkpoint = read_checkpoint(path)
    policy = load_network(checkpoint, _CPU).eval()
    wanted = Wanted(_agent(agent, policy), agent == ALL, format, opset)
    identity = contents.identity_of(checkpoint)
    module = policy.standalone(wanted.agent, discrete=identity.discrete, everybody=wanted.everybody).eval()
    players = _players(policy, wanted.agent) if module.who is not None else [wanted.agent]
    data = run.datamodule
    difficulty = contents.curriculum_of(checkpoint) or {}
    with contextlib.ExitStack() as stack:

        def begun(device: torch.device, count: int = len(players), later: int = 0) -> VectorEnv:
            env = stack.enter_context(contextlib.closing(data.env_factory(count, device, data.seed + later)))
            require_same_identity(identity, run.model.identity(env.spec))
            fixed_difficulty(env, difficulty, data.eval_difficulty)
            return env

        env = begun(run.trainer.strategy.root_device)
        provenance = _provenance(run, path, checkpoint, home)
        more = None
        if web:
            from epo_lightning.export.pages import shown  # MuJoCo is imported where a page wants it

            task = shown(lambda count, later: begun(_CPU, count, later), len(players))
            page = Page(task, policy, module, players, opset, provenance)
            page.require()
            more = page.write
        recording = record(env, policy, players, STEPS)
        parity = write_folder(target, wanted, policy, module, env, recording, provenance, more)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target}: {env.spec.name}, {policy.name_of(wanted.agent)}, {format}, {size / 1024:.0f} KiB")
    print(
        f"parity: actions differ by at most {parity.largest:.2g} in {parity.steps} steps of play"
        f" ({recording.episodes} episodes, {len(players)} agent{'s' if len(players) > 1 else ''})"
    )
    if web:
        print(f"page: {summary(target)}")
        print(f"page: python -m http.server -d {shlex.quote(str(target))}, then open http://localhost:8000")
    return 0


def _agent(text: str | None, policy: Policy) -> int:
    """Whom the file is for.

    Raises:
        Mistake: When there is no such agent.
    """
    if text is None or text == ALL:
        return policy.champion
    try:
        number = int(text)
    except ValueError:
        raise Mistake(f"--agent must be a number, or {ALL}; got {text}") from None
    if not 0 <= number < policy.num_agents:
        raise Mistake(f"--agent: there is no agent {number}; they are 0 to {policy.num_agents - 1}")
    return number


def _players(policy: Policy, first: int) -> list[int]:
    """The agent whom the file is for, and others from everywhere in the population."""
    others = [agent for agent in range(policy.num_agents) if agent != first]
    count = min(len(others), _PLAYERS - 1)
    return [first, *(others[place * len(others) // count] for place in range(count))]


def _provenance(run: Invocation, path: Path, checkpoint: dict[str, Any], home: RunFolder | None) -> dict[str, Any]:
    """Where the policy comes from."""
    ancestor, config = Ancestor.of(path, checkpoint), run.trained.config or {}
    sessions = sessions_of(home.record) if home else ()
    trained_by = sessions[-1] if sessions else None
    told: dict[str, Any] = {
        "algorithm": run.algorithm,
        "seed": config.get("seed_everything"),
        "env_steps": ancestor.env_steps,
        "iterations": ancestor.iteration,
        "run": home.path.resolve().name if home else None,
        "checkpoint": {"file": path.name, "id": ancestor.id},
        "env": without_secrets(config.get("data", {}).get("env")),
        "difficulty": contents.curriculum_of(checkpoint) or {},
        "exported_at": now(),
        "exported_by": made_by(),
    }
    if trained_by is not None:
        told["trained_by"] = {name: getattr(trained_by, name) for name in ("version", "commit", "dirty", "sources")}
    return told
