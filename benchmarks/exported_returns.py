"""Whether an exported policy gets the return of `validate`, in any task: it acts in a process that has no torch.

    epo-lightning export runs/first
    python benchmarks/exported_returns.py runs/first
    python benchmarks/exported_returns.py runs/cube --folder my_export --episodes 256

The environments and their seed are those of `validate`. Observations go through a pipe to a process in which importing
torch or epo_lightning fails, and its actions come back.
"""

import argparse
import pickle
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from epo_lightning import Run
from epo_lightning.experience.evaluation import Summary, fixed_difficulty, play_episodes, summarize
from epo_lightning.experience.streams import Stream, derive_seed
from epo_lightning.learner.policy import Policy
from epo_lightning.library.command import invoked
from epo_lightning.modules import contents
from epo_lightning.run.checkpoint import read_checkpoint

CHILD = """
import pickle, sys
sys.modules["torch"] = sys.modules["epo_lightning"] = None  # who imports them fails
from epo_runtime import Policy
policy = Policy.load(sys.argv[1])
while True:
    obs, begins = pickle.load(sys.stdin.buffer)
    policy.reset(begins)
    pickle.dump(policy.act(obs), sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""


class Apart(Policy):
    """An exported policy in another process. Its state only tells which rows go on with their episode.

    Args:
        folder: The export.
    """

    num_agents = 1

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.device_of = torch.nn.Parameter(torch.zeros(()))
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def initial_state(self, rows: int, device: torch.device | None = None) -> Tensor:
        """(1, N, 1) zeros."""
        return torch.zeros(1, rows, 1, device=device)

    def act(
        self, obs: Tensor, agent_ids: Tensor, state: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the other process says."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        pickle.dump((obs.numpy(), state[0, :, 0].numpy() == 0), self.child.stdin)
        self.child.stdin.flush()
        actions: Any = pickle.load(self.child.stdout)
        return torch.from_numpy(actions), torch.ones_like(state)

    def close(self) -> None:
        """End the other process."""
        self.child.kill()
        self.child.wait()


def play(run: Run, folder: Path, episodes: int) -> dict[str, Summary]:
    """Complete episodes of the export, in the environments of `validate`."""
    flags = [f"--ckpt_path={run.last}", "--trainer.accelerator=cpu"]
    with invoked("validate", None, None, flags) as invocation, closing(Apart(folder)) as policy:
        data, envs = invocation.datamodule, invocation.datamodule.eval_envs
        seed = derive_seed(data.seed, 0, Stream.EVALUATION)
        with closing(data.env_factory(envs, torch.device("cpu"), seed)) as env:
            reached = contents.curriculum_of(read_checkpoint(run.last)) or {}
            fixed_difficulty(env, reached, data.eval_difficulty)
            return summarize(play_episodes(env, policy, 0, -(-episodes // envs))[None])


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description="The return of an exported policy beside that of validate.")
    parser.add_argument("run")
    parser.add_argument("--folder", type=Path, help="the export (default: policy/ in the run folder)")
    parser.add_argument("--episodes", type=int, default=128)
    given = parser.parse_args()
    run = Run(given.run)
    settings = {"data.eval_episodes": given.episodes, "trainer.accelerator": "cpu"}
    sides = {
        "validate": run.evaluate(settings),
        "export": play(run, given.folder or run.folder / "policy", given.episodes),
    }
    for name in ("return", "length", "successes"):
        values = [f"{side} {told[name].mean:.4f} +- {told[name].standard_error:.4f}" for side, told in sides.items()]
        print(f"{name:10} {'   '.join(values)}")
    one, other = (told["return"] for told in sides.values())
    apart = abs(one.mean - other.mean) / max(1e-12, (one.standard_error**2 + other.standard_error**2) ** 0.5)
    print(f"the returns are {apart:.2f} standard errors apart")


if __name__ == "__main__":
    main()
