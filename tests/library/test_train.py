"""`train` is the command line for Python: the same files and numbers, and refusals as exceptions."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

import epo_lightning
from epo_lightning import Mistake, Policy, Run, load_policy, train
from epo_lightning.envs.base import VectorEnv
from epo_lightning.envs.classic import Probe
from epo_lightning.library import given
from tests.support.agent_reward import AgentReward
from tests.support.command_line import TINY, Cli, Rows

ROOT = Path(__file__).parents[2]


class Short(Probe):
    """A task of the user's own, which Python can import."""

    def __init__(self, num_envs: int, device: torch.device, seed: int, max_steps: int = 3) -> None:
        super().__init__(num_envs, device, seed, max_steps=max_steps)


class Count(L.Callback):
    """Counts iterations, over resumes, too."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class During(L.Callback):
    """Does something in the second iteration."""

    def __init__(self, what: Callable[[], object]) -> None:
        self.what = what

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        if trainer.current_epoch == 1:
            self.what()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one with a configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def test_it_makes_what_the_command_line_makes(cli: Cli, rows: Rows) -> None:
    settings = {"trainer.max_epochs": 3, "model.loss.clip_eps": 0.1}
    run = train("tiny.yaml", settings, run_dir="mine", seed=5)
    flags = ["--run_dir=theirs", "--seed_everything=5", "--trainer.max_epochs=3", "--model.loss.clip_eps=0.1"]
    assert cli("fit", "--config=tiny.yaml", *flags).code == 0
    assert rows(run.folder) == rows(Path("theirs"))
    assert Path("mine/config.yaml").read_text() == Path("theirs/config.yaml").read_text()
    mine, theirs = (torch.load(f"{name}/checkpoints/last.ckpt")["state_dict"] for name in ("mine", "theirs"))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_run_tells_its_metrics_configuration_checkpoints_and_agents(capsys: pytest.CaptureFixture[str]) -> None:
    run = train("tiny.yaml", {"model.network.lstm_units": 5})
    assert run.folder.parent == Path("runs/tiny")  # as the command line calls it: settings have no part in it
    assert run.metrics["charts/env_steps"].tolist() == [64, 128]
    assert np.isfinite(run.metrics["charts/episodic_return"][-1])
    assert run.config["model"]["num_agents"] == 4
    assert run.last.exists()
    assert run.best.exists()
    assert run.lineage == []
    assert repr(run) == f"Run('{run.folder}')"
    assert f'train(ckpt_path="{run.folder}", settings={{"trainer.max_epochs": 4}})' in capsys.readouterr().out
    policy = run.policy(agent=3)
    obs = np.array([0.5, -0.5])
    assert policy(obs).shape == (2,)
    assert (policy.task, policy.obs_dim, policy.act_dim, policy.num_agents) == ("Probe", 2, 2, 4)
    policy.reset()
    for source in (run, run.folder, str(run.last), "last"):
        other = load_policy(source, agent=3)
        assert isinstance(other, Policy)
        np.testing.assert_array_equal(other(obs), policy(obs))
        policy.reset()


def test_an_evaluation_is_that_of_the_command_line(cli: Cli) -> None:
    run = train("tiny.yaml")
    result = run.evaluate({"data.eval_episodes": 12})
    assert cli("validate", "--ckpt_path", run.folder, "--data.eval_episodes=12").code == 0
    told = json.loads((run.folder / "checkpoints/last.evaluation.json").read_text())
    assert told["episodes"] == 12
    assert result["return"].mean == told["return"]["mean"]
    assert len(run.evaluate(protocol=True, best=True)["return"].seed_means) == 5


def test_a_run_goes_on_by_folder_checkpoint_or_object(rows: Rows) -> None:
    whole = train("tiny.yaml", {"trainer.max_epochs": 4}, run_dir="whole")
    train("tiny.yaml", run_dir="parts", resume=True)
    train("tiny.yaml", {"trainer.max_epochs": 3}, run_dir="parts", resume=True)  # the whole command again
    run = train(run_dir="parts", resume=True, settings={"trainer.max_epochs": 4})  # or what is new
    assert rows(run.folder) == rows(whole.folder)
    other = train(ckpt_path=run, settings={"trainer.max_epochs": 5}, run_dir="other")
    assert len(other.metrics["charts/env_steps"]) == 1
    assert train(ckpt_path="last", settings={"trainer.max_epochs": 5}, run_dir="other").folder == Path("other")


def test_a_text_stays_a_text() -> None:
    name = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "007", "name": "1e-3"}}
    run = train("tiny.yaml", {"trainer.logger": name}, run_dir="run")
    assert (run.folder / "007" / "1e-3").is_dir()


@pytest.mark.parametrize("spelt_out", [True, False])
def test_a_class_of_ones_own_is_named_and_takes_arguments(spelt_out: bool) -> None:
    key = "data.env.init_args.max_steps" if spelt_out else "data.env.max_steps"
    run = train("tiny.yaml", {key: 2}, env=Short, run_dir="run")
    assert run.config["data"]["env"] == {"class_path": f"{__name__}.Short", "init_args": {"max_steps": 2}}
    assert train(ckpt_path=run, settings={"trainer.max_epochs": 3}).metrics["charts/env_steps"][-1] == 192


def test_a_function_is_known_to_this_process_and_asked_for_in_another_one(cli: Cli) -> None:
    run = train("tiny.yaml", env=lambda count, device, seed: AgentReward(count, device, seed), run_dir="run")
    assert run.metrics["charts/episodic_return"][-1] == 0  # the master's number
    assert run.evaluate()["length"].mean == 2
    run = train(ckpt_path=run, settings={"trainer.max_epochs": 3})
    given._GIVEN.clear()  # as in another process
    outcome = cli("fit", "--ckpt_path", "run", "--trainer.max_epochs=4")
    assert (outcome.code, outcome.err.count("error: ")) == (2, 1)
    assert "was given as a Python object" in outcome.err
    with pytest.raises(Mistake, match="was given as a Python object"):
        run.evaluate()
    more = {"trainer.max_epochs": 4}
    again = train(ckpt_path=run, settings=more, env=lambda count, device, seed: AgentReward(count, device, seed))
    assert again.metrics["charts/env_steps"][-1] == 256


def test_callbacks_are_objects_whose_state_comes_back() -> None:
    count = Count()
    run = train("tiny.yaml", callbacks=count, run_dir="run")
    assert count.count == 2
    assert "callbacks: []" in (run.folder / "config.yaml").read_text() or run.config["trainer"]["callbacks"] is None
    fresh = Count()
    train(ckpt_path=run, settings={"trainer.max_epochs": 3}, callbacks=[fresh])
    assert fresh.count == 3


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"config": "quickstrat"}, "config: quickstrat is neither a file"),
        ({"config": 3}, "config must be the name"),
        ({"settings": {"model.num_agent": 3}}, "num_agent"),
        ({"settings": {"model.num_agents": 3}}, "data.num_envs must be a positive multiple"),
        ({"settings": {"trainer.max_epochs": "many"}}, "trainer.max_epochs"),
        ({"settings": {"trainer.accelerator": "abacus"}}, "accelerator"),
        (
            {"settings": {"trainer.strategy": "ddp_spawn", "trainer.devices": 2}},
            "trainer.strategy DDPStrategy: what forked",
        ),
        ({"settings": {"trainer.strategy": "ddp_notebook", "trainer.devices": 2}}, "in a notebook, trainer.devices 1"),
        ({"settings": {"trainer": object()}}, "trainer must be data"),
        ({"settings": {"data.env.class_path": "a.B"}, "env": Short}, "data.env.class_path is given twice"),
        ({"env": 3}, "env must be a subclass"),
        ({"env": Count}, "Count must derive from"),
        ({"env": Short(4, torch.device("cpu"), 0)}, "give the class Short"),
        ({"env": "nowhere.Task"}, "nowhere"),
        ({"callbacks": Count}, r"callbacks must be objects .* got Count"),
        ({"callbacks": [Count(), 3]}, r"callbacks must be objects .* got int"),
        ({"callbacks": [Count(), Count()]}, "trainer.callbacks: two are of one class"),
        ({"ckpt_path": "nowhere"}, "ckpt_path: nowhere does not exist"),
        ({"resume": True}, "needs --run_dir"),
        ({"seed": -1}, "seed_everything"),
    ],
)
def test_a_refusal_is_an_exception_of_one_line(arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(Mistake, match=fault) as refusal:
        train(**{"config": "tiny.yaml", **arguments})
    message = str(refusal.value)
    assert "\n" not in message
    assert "settings.yaml" not in message
    assert refusal.value.__cause__ is None
    assert Path(refusal.traceback[-1].path).name in ("command.py", "train.py")  # nothing of the way to it
    assert not Path("runs").exists() or not any(Path("runs").rglob("*.*"))


def test_another_run_is_not_overwritten() -> None:
    train("tiny.yaml", run_dir="run")
    with pytest.raises(Mistake, match="already holds another run"):
        train("tiny.yaml", run_dir="run")


@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), ValueError("mine"), OSError("mine"), SystemExit(7)])
def test_exceptions_of_the_users_own_code_come_out_unchanged(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        train("tiny.yaml", callbacks=During(fail), run_dir="run")
    assert raised.value is error
    assert Run("run").last.exists()


@pytest.mark.parametrize(
    ("signals", "expected", "iterations"),
    [
        ([signal.SIGINT], KeyboardInterrupt, 2),
        ([signal.SIGINT] * 2, KeyboardInterrupt, 1),
        ([signal.SIGTERM], SystemExit, 2),
    ],
)
def test_an_interrupted_run_is_saved_and_can_be_interrupted_again(
    signals: list[signal.Signals], expected: type[BaseException], iterations: int
) -> None:
    def interrupt() -> None:
        for number in signals:
            signal.raise_signal(number)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(expected) as raised:
        train("tiny.yaml", {"trainer.max_epochs": 4}, callbacks=During(interrupt), run_dir="run")
    assert signal.getsignal(signal.SIGINT) is before
    if expected is SystemExit:
        assert raised.value.args == (128 + signal.SIGTERM,)
    assert torch.load("run/checkpoints/last.ckpt")["epoch"] + 1 == iterations
    assert len(train(run_dir="run", resume=True).metrics["charts/env_steps"]) == 4


def test_it_trains_beside_another_training_in_threads() -> None:
    runs: dict[int, Run] = {}

    def one(seed: int) -> None:
        runs[seed] = train("tiny.yaml", run_dir=f"run{seed}", seed=seed)

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(runs[seed].metrics["charts/env_steps"]) for seed in range(2)] == [2, 2]


def test_a_folder_without_a_run_is_none() -> None:
    with pytest.raises(Mistake, match="there is no run in nowhere"):
        Run("nowhere")


def test_somebody_elses_algorithm_is_not_imported() -> None:
    run = train("tiny.yaml")
    checkpoint = torch.load(run.last)
    checkpoint["identity"]["algorithm"] = "os.path.Evil"
    torch.save(checkpoint | {"epo_signature": "none"}, "evil.ckpt")
    with pytest.raises(Mistake, match=r"would import os\.path\.Evil: say trust=True"):
        load_policy("evil.ckpt")
    with pytest.raises(Mistake, match="algorithm"):
        load_policy("evil.ckpt", trust=True)


def test_a_device_that_is_not_there_is_refused() -> None:
    run = train("tiny.yaml")
    for device in ("gpu", "cuda:77"):
        with pytest.raises(Mistake, match=f"device: {device}"):
            load_policy(run, device=device)


def test_the_front_door_is_named_and_light() -> None:
    assert {"train", "load_policy", "Run", "Mistake", "Policy"} <= set(dir(epo_lightning))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = epo_lightning.nothing
    code = "from epo_lightning import train; import sys; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


SCRIPT = """
import sys

from epo_lightning import train
from epo_lightning.envs.classic import Probe


class Mine(Probe):
    pass


run = train("tiny.yaml", {"trainer.max_epochs": int(sys.argv[1])}, env=Mine, run_dir="mine", resume=True)
print(run.config["data"]["env"]["class_path"], len(run.metrics["charts/env_steps"]))
"""


def test_a_script_without_a_main_guard_trains_its_own_class_and_resumes(folder: Path, cli: Cli) -> None:
    (folder / "script.py").write_text(SCRIPT)
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    for iterations in ("2", "3"):
        command = [sys.executable, "script.py", iterations]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"__main__.Mine {iterations}"
    outcome = cli("validate", "--ckpt_path", "mine")  # whose __main__ is another one
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "Mine" in outcome.err


def test_an_importable_class_is_one_that_its_name_leads_to() -> None:
    class Local(VectorEnv):
        pass

    name = "test_an_importable_class_is_one_that_its_name_leads_to.<locals>.Local"
    assert given.env_settings(Local)["init_args"] == {"name": f"{__name__}.{name}"}
    assert given.env_settings(AgentReward) == {"class_path": "tests.support.agent_reward.AgentReward"}
