"""The recorder: when it films, whom, and that the training does not notice.

An iteration is 64 env steps: 4 agents with 4 environments, 4 steps. Episodes have three steps.
"""

import io
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio_ffmpeg
import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from epo_lightning.callbacks import VideoRecorder
from epo_lightning.callbacks import video as recorder
from epo_lightning.envs.base import StepResult
from epo_lightning.envs.classic import Probe
from epo_lightning.learner.networks import LatentActorCritic
from epo_lightning.modules.epo import EPOModule
from epo_lightning.show.playback import Playback
from tests.support.command_line import Cli
from tests.support.logged import tensorboard_pictures
from tests.support.training import Recorder, fit, small_data, small_module, train


class Gallery(Probe):
    """Draws from the global stream, as careless environments do, and shows black pictures."""

    def __init__(self, num_envs: int, device: torch.device, seed: int) -> None:
        super().__init__(num_envs, device, seed, max_steps=3)
        self.difficulty = 0.0

    def step(self, actions: Tensor) -> StepResult:
        result = super().step(actions)
        self.difficulty += 1
        return result._replace(reward=result.reward + 0.1 * torch.rand(len(actions)) * random.random())

    def curriculum(self) -> dict[str, float]:
        return {"difficulty": self.difficulty}

    def set_curriculum(self, values: Mapping[str, float]) -> None:
        self.difficulty = values["difficulty"]

    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        return np.zeros((len(envs), height, width, 3), dtype=np.uint8)


class Blind(Gallery):
    def render(self, envs: Sequence[int], width: int, height: int) -> np.ndarray:
        raise ValueError("this machine cannot draw")


class Diary(L.Callback):
    """What the training came to, iteration by iteration."""

    def __init__(self) -> None:
        self.pages: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, EPOModule)
        clocks = ("time/", "charts/sps")
        self.pages.append({k: v for k, v in pl_module.metrics.items() if not k.startswith(clocks)})


def film(**changes: Any) -> VideoRecorder:
    return VideoRecorder(**({"every_n_env_steps": 128, "seconds": 0.1, "width": 32, "height": 24} | changes))


def run(folder: Path, iterations: int, *callbacks: L.Callback, env: type[Probe] = Gallery) -> EPOModule:
    module = small_module()
    train(module, small_data(16, env), folder, iterations, *callbacks)
    return module


def videos(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "videos").iterdir())


class TestWhen:
    def test_every_so_many_env_steps(self, tmp_path: Path) -> None:
        run(tmp_path, 5, film())
        assert videos(tmp_path) == ["128.mp4", "256.mp4"]
        frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "videos/256.mp4"))
        assert (frames, seconds) == (3, pytest.approx(0.1, abs=0.01))

    def test_the_interval_counts_from_the_last_video(self, tmp_path: Path) -> None:
        # due at 100: filmed at 128; due at 228: filmed at 256
        run(tmp_path, 5, film(every_n_env_steps=100))
        assert videos(tmp_path) == ["128.mp4", "256.mp4"]

    def test_a_resumed_run_films_when_the_uninterrupted_would(self, tmp_path: Path) -> None:
        class Save(L.Callback):
            def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)

        run(tmp_path / "whole", 6, film(every_n_env_steps=160))
        run(tmp_path / "parts", 4, film(every_n_env_steps=160), Save())
        trainer = L.Trainer(
            accelerator="cpu", devices=1, max_epochs=6, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
            default_root_dir=tmp_path / "parts", callbacks=[film(every_n_env_steps=160)],
        )  # fmt: skip
        trainer.fit(small_module(), small_data(16, Gallery), ckpt_path=tmp_path / "a.ckpt")
        assert videos(tmp_path / "parts") == videos(tmp_path / "whole") == ["192.mp4", "384.mp4"]


class TestWhat:
    @pytest.fixture
    def filmed(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        """Who is filmed, instead of a film."""
        seen: list[dict[str, Any]] = []

        def note(playback: Playback, _path: Path, _seconds: float, width: int, height: int) -> None:
            assert isinstance(playback.policy, LatentActorCritic)
            values = {"labels": playback.labels, "obs": playback._obs.clone(), "size": (width, height)}
            seen.append(values | playback.env.curriculum() | {"weights": playback.policy.genes.detach().clone()})

        monkeypatch.setattr(recorder, "record", note)
        return seen

    def test_the_master_and_two_followers_with_their_present_genes(
        self, tmp_path: Path, filmed: list[dict[str, Any]]
    ) -> None:
        module = run(tmp_path, 4, film())
        assert [each["labels"] for each in filmed] == [["master", "follower 1", "follower 2"]] * 2
        assert torch.equal(filmed[1]["weights"], module.policy.genes)
        assert not torch.equal(filmed[0]["weights"], module.policy.genes)
        assert filmed[0]["size"] == (32, 24)

    def test_agents_by_number(self, tmp_path: Path, filmed: list[dict[str, Any]]) -> None:
        run(tmp_path, 2, film(agents=[3, 0]))
        assert filmed[0]["labels"] == ["follower 3", "master"]

    def test_as_difficult_as_the_training_and_alike_every_time(
        self, tmp_path: Path, filmed: list[dict[str, Any]]
    ) -> None:
        run(tmp_path, 4, film())
        assert [each["difficulty"] for each in filmed] == [8.0, 16.0]
        assert torch.equal(filmed[0]["obs"], filmed[1]["obs"])


class TestTraining:
    def test_bitwise_the_same_with_and_without(self, tmp_path: Path) -> None:
        results = []
        for callbacks in ([], [film(every_n_env_steps=64)]):
            torch.manual_seed(0)
            random.seed(0)
            diary = Diary()
            module = run(tmp_path, 4, *callbacks, diary)
            results.append((diary.pages, module.policy.state_dict(), torch.get_rng_state()))
        (pages, weights, stream), (filmed_pages, filmed_weights, filmed_stream) = results
        assert len(videos(tmp_path)) == 4
        assert len(pages) == 5
        assert repr(filmed_pages) == repr(pages)
        assert all(torch.equal(weights[name], filmed_weights[name]) for name in weights)
        assert torch.equal(stream, filmed_stream)

    def test_wandb_gets_the_file(self, tmp_path: Path) -> None:
        class Desk(WandbLogger):
            def __init__(self) -> None:
                self.videos: list[tuple[Any, ...]] = []

            def finalize(self, status: str) -> None:
                """Nothing was begun."""

            def log_video(self, key: str, videos: list[Any], step: int | None = None, **kwargs: Any) -> None:
                self.videos.append((key, videos, step))

        class Hire(L.Callback):
            """Lightning would start a W&B run otherwise."""

            def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                trainer._loggers = [desk]

        desk = Desk()
        run(tmp_path, 1, Hire(), film(every_n_env_steps=64))
        assert desk.videos == [("videos/agents", [str(tmp_path / "videos/64.mp4")], 64)]

    def test_every_logger_gets_what_it_takes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """W&B by its logger, Comet and MLflow by their clients, TensorBoard as a moving picture; others: one line."""
        board = TensorBoardLogger(tmp_path / "board")
        comet, mlflow, broken = Service("log_video"), Service("log_artifact"), Service("log_video", OSError("no\nnet"))
        loggers = [board, comet, mlflow, Silent(), broken]
        recorder = film(every_n_env_steps=64, seconds=0.5)
        fit(small_module(), small_data(env=Gallery), tmp_path, callbacks=[recorder], logger=loggers)
        first, second = (tmp_path / f"videos/{steps}.mp4" for steps in (64, 128))
        assert comet.films == [
            ((str(file),), {"name": f"videos/agents/{file.name}", "step": steps})
            for file, steps in ((first, 64), (second, 128))
        ]
        assert mlflow.films == [(("the-run", str(file), "videos/agents"), {}) for file in (first, second)]
        pictures = tensorboard_pictures(tmp_path / "board/lightning_logs/version_0")["videos/agents"]
        assert [step for step, _ in pictures] == [64, 128]
        with Image.open(io.BytesIO(pictures[0][1])) as picture:
            assert (picture.format, getattr(picture, "n_frames", 1) > 1) == ("GIF", True)
        notices = [line for line in capsys.readouterr().err.splitlines() if line.startswith("notice: trainer.logger")]
        assert notices == [
            f"notice: trainer.logger Silent did not get the film: it takes no films; it is {first}",
            f"notice: trainer.logger Service did not get the film: no net; it is {first}",
        ]


class Silent(Recorder):
    """A logger of numbers alone."""


class Service(Recorder):
    """A logger with a client that can do one thing, or fails to."""

    run_id = "the-run"

    def __init__(self, ability: str, fault: Exception | None = None) -> None:
        super().__init__()
        self.films: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.fault = fault
        self.experiment = SimpleNamespace(**{ability: self.take})

    def take(self, *args: Any, **kwargs: Any) -> None:
        if self.fault:
            raise self.fault
        self.films.append((args, kwargs))


class TestRefusals:
    def refused(self, folder: Path, match: str, callback: VideoRecorder, env: type[Probe] = Gallery) -> None:
        """Before the first iteration, and without a file."""
        diary = Diary()
        with pytest.raises(ValueError, match=match) as caught:
            run(folder, 2, callback, diary, env=env)
        assert "\n" not in str(caught.value)
        assert diary.pages == []
        assert list(folder.iterdir()) == []

    def test_a_machine_that_cannot_draw(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "this machine cannot draw", film(), Blind)

    def test_a_task_without_pictures(self, tmp_path: Path) -> None:
        self.refused(tmp_path, "Probe has no pictures", film(), Probe)

    def test_without_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
        self.refused(tmp_path, r"pip install 'epo-lightning\[video\]'", film())

    @pytest.mark.parametrize("agents", [[0, 4], [-1]])
    def test_agents_that_do_not_exist(self, tmp_path: Path, agents: list[int]) -> None:
        self.refused(tmp_path, r"VideoRecorder\.agents", film(agents=agents))

    @pytest.mark.parametrize(("name", "value"), [("every_n_env_steps", 0), ("seconds", 0), ("agents", [])])
    def test_out_of_range(self, name: str, value: object) -> None:
        changes: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=rf"trainer\.callbacks VideoRecorder\.{name} must"):
            film(**changes)


def test_from_the_command_line(cli: Cli) -> None:
    options = [
        "--trainer.callbacks=epo_lightning.callbacks.VideoRecorder",
        "--trainer.callbacks.every_n_env_steps=64",
        "--trainer.callbacks.agents=[0,3]",
        "--trainer.callbacks.seconds=0.1",
        f"--data.env={__name__}.Gallery",
    ]
    config = Path("tiny.yaml").read_text().replace(", init_args: {max_steps: 3}", "")
    Path("tiny.yaml").write_text(config)
    outcome = cli("fit", "--config", "tiny.yaml", "--run_dir", "run", *options)
    assert outcome.code == 0, outcome.err
    assert videos(Path("run")) == ["128.mp4", "64.mp4"]
