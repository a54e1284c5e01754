"""`play` and `view`: agents of a checkpoint, or a policy without a network, on film and in the browser."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from epo_lightning.cli.agents import agent_numbers
from epo_lightning.cli.invocation import Invocation
from epo_lightning.cli.trained import Trained
from epo_lightning.experience.evaluation import fixed_difficulty
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules import contents
from epo_lightning.modules.identity import require_same_identity
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.checkpoint_contents import load_network
from epo_lightning.run.folder import RunFolder
from epo_lightning.show.playback import Playback
from epo_lightning.show.video import record, require_encoder, require_writable
from epo_lightning.show.viewer import require_viewer
from epo_lightning.show.viewer import view as serve

PolicyName = Literal["random", "zero", "scripted"]


def play(
    run: Invocation,
    agents: str | None = None,
    policy: PolicyName | None = None,
    seconds: float = 20.0,
    out: str | None = None,
    width: int = 480,
    height: int = 360,
) -> int:
    """Film agents of a checkpoint, or a policy without a network.

    Args:
        run: What the command line means.
        agents: Numbers of the agents to play with their mean actions, such as 0,1,5; the one that is evaluated
            (0, the master, where there is one) plays when nothing is said.
        policy: Which policy plays in addition to the agents, or alone without --ckpt_path.
        seconds: Length of the video, in the task's own time.
        out: The video (.mp4); by default in videos/ of the checkpoint's run folder, else in the working directory.
        width: Pixels of one environment's picture.
        height: Pixels of one environment's picture, without its caption.
    """
    actors = _actors(run.trained, agents, policy)
    require_range("--seconds", seconds, 0, open_low=True)
    require_encoder()
    if out:
        require_writable(Path(out))
    with _playing(run, actors) as playback:
        path = Path(out or _default_path(run.trained.path, actors, playback.env.spec.name))
        require_writable(path)
        frames = record(playback, path, seconds, width, height)
    print(f"{path}: {seconds:g} s, {frames} frames")
    totals = zip(playback.labels, playback.total_successes.tolist(), playback.episodes.tolist(), strict=True)
    for label, successes, episodes in totals:
        print(f"{label:12}{successes:6.0f} successes, {episodes} episodes finished")
    return 0


def view(run: Invocation, agents: str | None = None, policy: PolicyName | None = None, port: int = 8080) -> int:
    """Watch agents of a checkpoint, or a policy without a network, in the browser, and push the object.

    Args:
        run: What the command line means.
        agents: Numbers of the agents to watch, such as 0,1,5; the one that is evaluated (0, the master, where there
            is one) acts when nothing is said.
        policy: Which policy acts in addition to the agents, or alone without --ckpt_path.
        port: Where the page is served, on this machine only; 0: any free port.
    """
    actors = _actors(run.trained, agents, policy)
    require_viewer(port)
    with _playing(run, actors) as playback:
        serve(playback, port)
    return 0


@contextlib.contextmanager
def _playing(run: Invocation, actors: list[int | str]) -> Iterator[Playback]:
    """Whoever acts, in environments as difficult as the checkpoint's training had made them.

    Args:
        run: Its model must agree with its checkpoint.
        actors: Numbers of agents, and names of policies.

    Raises:
        Mistake: When checkpoint, task and actors do not fit together.
    """
    model, data, device = run.model, run.datamodule, run.trainer.strategy.root_device
    checkpoint = read_checkpoint(Path(run.trained.path)) if run.trained.path else None
    network, reached = None, None
    with contextlib.closing(data.env_factory(len(actors), device, data.seed)) as env:
        if checkpoint is not None:
            require_same_identity(contents.identity_of(checkpoint), model.identity(env.spec))
            network, reached = load_network(checkpoint, device), contents.curriculum_of(checkpoint)
        fixed_difficulty(env, reached or {}, data.eval_difficulty)
        yield Playback(env, actors, network, data.seed)


def _actors(trained: Trained, agents: str | None, policy: str | None) -> list[int | str]:
    """Who plays: agents first."""
    if not trained.path:
        if agents:
            raise Mistake("--agents needs --ckpt_path, the checkpoint that they come from")
        if not policy:
            raise Mistake("--ckpt_path is missing; or let --policy random, zero or scripted play --config NAME")
        return [policy]
    numbers = agent_numbers(agents) if agents else [trained.champion]
    return [*numbers, *([policy] if policy else [])]


def _default_path(ckpt_path: str | None, actors: list[int | str], task: str) -> Path:
    """`videos/<checkpoint>-<actors>.mp4` in the run folder, or a name in the working directory."""
    home = RunFolder.of_checkpoint(Path(ckpt_path)) if ckpt_path else None
    name = Path(ckpt_path).stem if ckpt_path else task.replace("/", "-")
    folder = home.path / "videos" if home else Path()
    return folder / f"{name}-{'-'.join(str(actor) for actor in actors)}.mp4"
