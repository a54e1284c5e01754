"""Lightning's Trainer with this package's own commands: every method named in `SHOWS` is one.

A method's arguments become flags, its docstring the help.
"""

from pathlib import Path
from typing import Any, Literal

import lightning as L

from epo_lightning.experience.evaluation import fixed_difficulty
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules import contents
from epo_lightning.modules.data import RolloutDataModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.modules.identity import require_same_identity
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.folder import RunFolder
from epo_lightning.show.playback import Playback, load_policy
from epo_lightning.show.video import record, require_encoder, require_writable
from epo_lightning.show.viewer import require_viewer, view

SHOWS = ("play", "view")
"""Commands that show agents; they run in one process."""
PolicyName = Literal["random", "zero", "scripted"]


class EPOTrainer(L.Trainer):
    """A Trainer that can also show what it has trained."""

    def save_checkpoint(
        self, filepath: Any, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """As Lightning's; what keeps the first rank from writing stops all of them, by the same line.

        Raises:
            Mistake: When the checkpoint cannot or must not be written.
        """
        checkpoint = self._checkpoint_connector.dump_checkpoint(weights_only)
        fault = None
        try:
            self.strategy.save_checkpoint(checkpoint, filepath, storage_options=storage_options)
        except ValueError as error:
            fault = str(error)
        fault = self.strategy.broadcast(fault)
        if fault:
            raise Mistake(fault)

    def play(
        self,
        model: EPOModule,
        datamodule: RolloutDataModule,
        ckpt_path: str | None = None,
        agents: str | None = None,
        policy: PolicyName | None = None,
        seconds: float = 20.0,
        out: str | None = None,
        width: int = 480,
        height: int = 360,
    ) -> None:
        """Film agents of a checkpoint, or a policy without a network.

        Args:
            model: The population; its network comes from the checkpoint.
            datamodule: The task.
            ckpt_path: Checkpoint, run folder, `last` or `best`.
            agents: Numbers of the agents to play with their mean actions, such as 0,1,5; 0 is the master, who plays
                when nothing is said.
            policy: Who plays beside the agents, or without --ckpt_path alone.
            seconds: Length of the video, in the task's own time.
            out: The video (.mp4); by default in videos/ of the checkpoint's run folder, else in the working directory.
            width: Pixels of one environment's picture.
            height: Pixels of one environment's picture, without its caption.
        """
        actors = _actors(ckpt_path, agents, policy)
        require_range("--seconds", seconds, 0, open_low=True)
        require_encoder()
        if out:
            require_writable(Path(out))
        playback = self.playback(model, datamodule, actors, ckpt_path)
        try:
            path = Path(out or _default_path(ckpt_path, actors, playback.env.spec.name))
            require_writable(path)
            frames = record(playback, path, seconds, width, height)
        finally:
            playback.env.close()
        print(f"{path}: {seconds:g} s, {frames} frames")
        totals = zip(playback.labels, playback.total_successes.tolist(), playback.episodes.tolist(), strict=True)
        for label, successes, episodes in totals:
            print(f"{label:12}{successes:6.0f} successes, {episodes} episodes finished")

    def view(
        self,
        model: EPOModule,
        datamodule: RolloutDataModule,
        ckpt_path: str | None = None,
        agents: str | None = None,
        policy: PolicyName | None = None,
        port: int = 8080,
    ) -> None:
        """Watch agents of a checkpoint, or a policy without a network, in the browser, and push the object.

        Args:
            model: The population; its network comes from the checkpoint.
            datamodule: The task.
            ckpt_path: Checkpoint, run folder, `last` or `best`.
            agents: Numbers of the agents to watch, such as 0,1,5; 0 is the master, who acts when nothing is said.
            policy: Who acts beside the agents, or without --ckpt_path alone.
            port: Where the page is served, on this machine only; 0: any free port.
        """
        actors = _actors(ckpt_path, agents, policy)
        require_viewer(port)
        playback = self.playback(model, datamodule, actors, ckpt_path)
        try:
            view(playback, port)
        finally:
            playback.env.close()

    def playback(
        self, model: EPOModule, datamodule: RolloutDataModule, actors: list[int | str], ckpt_path: str | None
    ) -> Playback:
        """Whoever acts, in environments as difficult as the checkpoint's training had made them.

        Args:
            model: Must agree with the checkpoint.
            datamodule: The task and its seed.
            actors: Numbers of agents, and names of policies.
            ckpt_path: Where the agents come from; None without agents.

        Raises:
            Mistake: When checkpoint, task and actors do not fit together.
        """
        device, policy, reached = self.strategy.root_device, None, None
        checkpoint = read_checkpoint(Path(ckpt_path)) if ckpt_path else None
        env = datamodule.env_factory(len(actors), device, datamodule.seed)
        try:
            if checkpoint is not None:
                require_same_identity(contents.identity_of(checkpoint), model.identity(env.spec))
                policy, reached = load_policy(checkpoint, device), contents.curriculum_of(checkpoint)
            fixed_difficulty(env, reached or {}, datamodule.eval_difficulty)
            return Playback(env, actors, policy, datamodule.seed)
        except ValueError:
            env.close()
            raise


def _actors(ckpt_path: str | None, agents: str | None, policy: str | None) -> list[int | str]:
    """Who plays: agents first."""
    if not ckpt_path:
        if agents:
            raise Mistake("--agents needs --ckpt_path, the checkpoint that they come from")
        if not policy:
            raise Mistake("--ckpt_path is missing; or let --policy random, zero or scripted play --config NAME")
        return [policy]
    try:
        numbers: list[int | str] = [int(number) for number in (agents or "0").split(",")]
    except ValueError:
        raise Mistake(f"--agents must be numbers with commas between them, such as 0,1,5; got {agents}") from None
    return numbers + ([policy] if policy else [])


def _default_path(ckpt_path: str | None, actors: list[int | str], task: str) -> Path:
    """`videos/<checkpoint>-<actors>.mp4` in the run folder, or a name in the working directory."""
    home = RunFolder.of_checkpoint(Path(ckpt_path)) if ckpt_path else None
    name = Path(ckpt_path).stem if ckpt_path else task.replace("/", "-")
    folder = home.path / "videos" if home else Path()
    return folder / f"{name}-{'-'.join(str(actor) for actor in actors)}.mp4"
