"""What is given together with a checkpoint is applied and told, or refused by name."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from epo_lightning.experience.rollout import RolloutDataset
from epo_lightning.modules.contents import CONFIG as CONFIG_KEY
from epo_lightning.run.checkpoint import read_checkpoint
from epo_lightning.run.interruption import TimeLimit
from epo_lightning.run.overrides import Change, find_changes, require_changeable
from tests.support.command_line import Cli, Rows
from tests.support.training import small_data, small_module, train

GA = "epo_lightning.callbacks.GeneticEvolution"
GUARD = "epo_lightning.callbacks.NaNGuard"


def callbacks(*items: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"trainer": {"callbacks": [{"class_path": name, "init_args": dict(args)} for name, args in items]}}


class TestFinding:
    def test_equal_values_are_no_change(self) -> None:
        config = {"a": {"b": 1, "c": None}, **callbacks((GA, {"seed": 1}))}
        assert find_changes(config, {"a": {"b": 1.0, "c": None}, **callbacks((GA, {"seed": 1}))}) == []
        assert find_changes({"trainer": {"callbacks": None}}, {"trainer": {"callbacks": []}}) == []

    def test_keys_old_and_new_values(self) -> None:
        old = {"seed": 0, "data": {"env": {"class_path": "a.B", "init_args": {"x": None}}, "d": None}}
        new = {"seed": 0, "data": {"env": {"class_path": "a.B", "init_args": {"x": 2}}, "d": {"tolerance": 0.1}}}
        assert find_changes(old, new) == [
            Change("data.env.init_args.x", None, 2),
            Change("data.d", None, {"tolerance": 0.1}),
        ]

    def test_keys_of_another_version(self) -> None:
        assert [str(each) for each in find_changes({"gone": 1}, {"come": True})] == [
            "gone 1 -> unset",
            "come unset -> true",
        ]

    def test_a_callback_is_known_by_its_class_wherever_it_stands(self) -> None:
        old = callbacks((GA, {"every": 1, "seed": 0}), (GUARD, {}))
        new = callbacks((GUARD, {}), (GA, {"every": 2, "seed": 0}))
        assert find_changes(old, new) == [
            Change("trainer.callbacks", ["GeneticEvolution", "NaNGuard"], ["NaNGuard", "GeneticEvolution"]),
            Change("trainer.callbacks.GeneticEvolution.every", 1, 2),
        ]

    def test_added_and_removed_callbacks_are_told_by_their_names(self) -> None:
        changes = find_changes(callbacks((GA, {"every": 1})), callbacks((GUARD, {"x": 1})))
        assert [str(each) for each in changes] == ['trainer.callbacks ["GeneticEvolution"] -> ["NaNGuard"]']
        one, none = callbacks((GA, {})), {"trainer": {"callbacks": None}}
        assert find_changes(one, none) == [Change("trainer.callbacks", ["GeneticEvolution"], [])]

    def test_two_loggers_of_one_class(self) -> None:
        logger = {"class_path": "a.CSV", "init_args": {"save_dir": "x"}}
        other = {"class_path": "a.CSV", "init_args": {"save_dir": "y"}}
        old, new = {"trainer": {"logger": logger}}, {"trainer": {"logger": [logger, other]}}
        assert find_changes(old, new) == [Change("trainer.logger", ["CSV"], ["CSV", "CSV#2"])]
        assert find_changes(old, {"trainer": {"logger": True}})[0].new is True

    def test_a_line(self) -> None:
        assert str(Change("model.optimizer.learning_rate", 0.002, 1e-5)) == (
            "model.optimizer.learning_rate 0.002 -> 1e-05"
        )
        assert str(Change("model.network.log_std_init", 0.0, -1.0)).endswith("(matters only where a run begins)")

    def test_what_cannot_change(self) -> None:
        require_changeable([Change("model.loss.clip_eps", 0.1, 0.2)])
        with pytest.raises(
            ValueError, match=r"^--ckpt_path: seed_everything 0 -> 3 cannot change on resume, a run goes"
        ):
            require_changeable([Change("model.loss.clip_eps", 0.1, 0.2), Change("seed_everything", 0, 3)])


FIRST = ("fit", "--config", "tiny.yaml", "--run_dir", "run")
ON = ("fit", "--ckpt_path", "run", "--trainer.max_epochs")


def embedded(path: str = "run/checkpoints/last.ckpt") -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(read_checkpoint(Path(path))[CONFIG_KEY])
    return config


def said(out: str) -> list[str]:
    """The changes that were told, beside the number of iterations."""
    prefix = "Changed on resume: "
    lines = [line.removeprefix(prefix) for line in out.splitlines() if line.startswith(prefix)]
    return [line for line in lines if not line.startswith("trainer.max_epochs")]


class TestLearningRate:
    def test_the_given_one_is_adams_now_and_the_files_tell_it(self, cli: Cli, rows: Rows) -> None:
        steady = ("--model.optimizer.target_kl=null", "--model.optimizer.learning_rate=2e-3")
        assert cli(*FIRST, *steady).code == 0
        outcome = cli(*ON, 4, "--model.optimizer.learning_rate", "1e-5")
        assert said(outcome.out) == ["model.optimizer.learning_rate 0.002 -> 1e-05"]
        rates = [float(row["charts/learning_rate"]) for row in rows(Path("run"))]
        assert rates == pytest.approx([2e-3, 2e-3, 1e-5, 1e-5])
        for config in (embedded(), yaml.safe_load(Path("run/config.yaml").read_text())):
            assert config["model"]["optimizer"]["learning_rate"] == 1e-5
            assert config["trainer"]["max_epochs"] == 4
        assert said(cli(*ON, 5).out) == []  # from now on the run's own
        assert float(rows(Path("run"))[-1]["charts/learning_rate"]) == pytest.approx(1e-5)

    def test_one_that_was_adapted_goes_on_unless_another_is_given(self, cli: Cli) -> None:
        assert cli(*FIRST, "--model.optimizer.target_kl=1e-9").code == 0  # falls by 1.5 twice
        assert cli(*ON, 3, "--model.optimizer.learning_rate=3e-4", "--model.optimizer.target_kl=null").code == 0
        state = read_checkpoint(Path("run/checkpoints/last.ckpt"))["optimizer_states"][0]
        assert state["param_groups"][0]["lr"].item() == pytest.approx(3e-4 / 1.5**2)

    def test_new_bounds_hold_at_once(self, cli: Cli, rows: Rows) -> None:
        assert cli(*FIRST).code == 0
        bounds = ("--model.optimizer.learning_rate_min=2e-4", "--model.optimizer.learning_rate_max=3e-4")
        assert cli("fit", "--ckpt_path=run", "--model.optimizer.learning_rate_max=1e-6").code == 2
        outcome = cli(*ON, 4, *bounds, "--model.optimizer.target_kl=1000")  # only ever rises
        assert len(said(outcome.out)) == 3
        assert float(rows(Path("run"))[-1]["charts/learning_rate"]) == pytest.approx(3e-4)

    def test_moments_stay_and_a_given_overlay_wins_like_a_flag(self, cli: Cli) -> None:
        assert cli(*FIRST).code == 0
        Path("slow.yaml").write_text("model: {optimizer: {learning_rate: 1.0e-6, target_kl: null}}")
        before = read_checkpoint(Path("run/checkpoints/last.ckpt"))["optimizer_states"][0]
        assert cli(*ON, 3, "--config", "slow.yaml").code == 0
        after = read_checkpoint(Path("run/checkpoints/last.ckpt"))["optimizer_states"][0]
        assert after["state"][0]["step"] == before["state"][0]["step"] + 2
        assert after["param_groups"][0]["lr"].item() == pytest.approx(1e-6)


APPLIED = [
    ["--model.loss.clip_eps=0.3"],
    ["--model.loss.value_clip_eps=null"],
    ["--model.loss.entropy_scale=0.5"],
    ["--model.optimizer.max_grad_norm=0.1"],
    ["--model.rollout.horizon=7"],
    ["--model.rollout.num_epochs=3"],
    ["--model.rollout.num_minibatches=3"],
    ["--model.rollout.gamma=0.9"],
    ["--model.rollout.reward_scale=0.1"],
    ["--model.rollout.estimator=n_step"],
    ["--model.rollout.off_policy_ratio=0.5"],
    ["--model.rollout.off_policy_source=one_agent"],
    ["--model.rollout.mu_cap=1.0"],
    ["--data.eval_envs=2"],
    ["--data.env.init_args.max_steps=2"],
    ["--trainer.precision=bf16-mixed"],
    ["--trainer.deterministic=true"],
    ["--checkpoint.every_n_iterations=1"],
    ["--model.network.obs_clip=2.0"],
    [f"--trainer.callbacks={GUARD}"],
]


class TestApplied:
    @pytest.mark.parametrize("flags", APPLIED, ids=lambda flags: flags[0].removeprefix("--"))
    def test_a_run_goes_on_with_it_and_says_so(self, cli: Cli, rows: Rows, flags: list[str]) -> None:
        assert cli(*FIRST).code == 0
        outcome = cli(*ON, 4, *flags)
        assert outcome.code == 0, outcome.err
        key = flags[0].removeprefix("--").partition("=")[0]
        assert [line.partition(" ")[0] for line in said(outcome.out)] == [key]
        assert len(rows(Path("run"))) == 4
        assert embedded() == yaml.safe_load(Path("run/config.yaml").read_text())
        assert cli(*ON, 5).code == 0

    def test_with_a_recurrent_network(self, cli: Cli, rows: Rows) -> None:
        assert cli(*FIRST, "--model.network.lstm_units=6").code == 0
        sizes = ("--model.rollout.horizon=6", "--model.rollout.num_epochs=2", "--model.rollout.num_minibatches=4")
        steps = read_checkpoint(Path("run/checkpoints/last.ckpt"))["optimizer_states"][0]["state"][0]["step"]
        assert cli(*ON, 4, *sizes).code == 0
        now = read_checkpoint(Path("run/checkpoints/last.ckpt"))["optimizer_states"][0]["state"][0]["step"]
        assert now - steps == 2 * 2 * 4  # iterations x passes x minibatches
        assert [row["charts/env_steps"] for row in rows(Path("run"))] == ["64", "128", "224", "320"]

    def test_a_narrower_range_of_log_std_holds_at_once(self, cli: Cli) -> None:
        assert cli(*FIRST).code == 0
        limits = ("--model.network.log_std_max=-1", "--model.network.log_std_init=-1")
        outcome = cli(*ON, 3, *limits)
        assert said(outcome.out) == [
            "model.network.log_std_init 0.0 -> -1.0 (matters only where a run begins)",
            "model.network.log_std_max 2.0 -> -1.0",
        ]
        assert read_checkpoint(Path("run/checkpoints/last.ckpt"))["state_dict"]["policy.log_std"].max() <= -1
        assert cli("validate", "--ckpt_path", "run").code == 0

    def test_a_new_reward_scale_rescales_what_the_critic_knows(self, tmp_path: Path) -> None:
        data = small_data()
        module = small_module(rollout={"reward_scale": 0.5})
        train(module, data, tmp_path, 2)
        old, moments = module.dataset, module.policy.value_moments
        mean, std = moments.mean.clone(), moments.std().clone()
        new = RolloutDataset(old.world, module.policy, old.population, replace(old.settings, reward_scale=2.0))
        new.restore(old.saved())
        torch.testing.assert_close(moments.mean, 4 * mean)
        torch.testing.assert_close(moments.std(), 4 * std, rtol=1e-4, atol=0)  # but for the epsilon under the root
        assert new.saved()["reward_scale"] == 2.0

    def test_the_clock_of_the_videos(self) -> None:
        from epo_lightning.callbacks import VideoRecorder

        old = VideoRecorder(every_n_env_steps=1000)
        old.clock.restart(500)
        new = VideoRecorder(every_n_env_steps=100)
        new.load_state_dict(old.state_dict())
        assert not new.clock.is_due(599)
        assert new.clock.is_due(600)

    def test_a_callback_that_is_new_measures_from_then_on(self, cli: Cli) -> None:
        assert cli(*FIRST).code == 0
        assert cli(*ON, 3).code == 0

        def opened_at() -> int:
            (rank,) = read_checkpoint(Path("run/checkpoints/last.ckpt"))["ranks"]
            return int(rank["fitness"]["opened_at"])

        assert opened_at() == 0
        Path("evolving.yaml").write_text(yaml.safe_dump(callbacks((GA, {"num_elites": 1}))))
        assert cli(*ON, 4, "--config", "evolving.yaml").code == 0
        assert opened_at() == 3 * 64

    def test_a_new_interval_counts_from_when_the_window_was_opened(self, cli: Cli) -> None:
        slow = callbacks((GA, {"num_elites": 1, "warmup_env_steps": 0, "every_n_env_steps": 640}))
        Path("evolving.yaml").write_text(yaml.safe_dump(slow))
        assert cli(*FIRST, "--config", "evolving.yaml", "--trainer.max_epochs=4").code == 0
        Path("evolving.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [
            {"class_path": GA, "init_args": {"num_elites": 1, "every_n_env_steps": 320, "spread_threshold": 0.0}}
        ]}}))  # fmt: skip
        outcome = cli(*ON, 5, "--config", "evolving.yaml", "--trainer.callbacks.warmup_env_steps=0")
        assert "trainer.callbacks.GeneticEvolution.every_n_env_steps 640 -> 320" in said(outcome.out)
        assert '"env_steps": 320' in Path("run/lineage.jsonl").read_text()

    def test_two_callbacks_of_one_class_are_one_line(self, cli: Cli) -> None:
        elites = {"class_path": "epo_lightning.callbacks.ElitePreservation", "init_args": {"archive_size": 1}}
        Path("more.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks+": [elites]}}))
        assert cli(*FIRST, "--config", "more.yaml").code == 0
        outcome = cli(*ON, 3, "--config", "more.yaml")
        assert outcome.code == 2
        assert outcome.err.startswith("error: trainer.callbacks: two are of one class")
        assert outcome.err.count("\n") == 1


REFUSED = {
    "seed_everything": "3",
    "model.num_agents": "8",
    "model.network.gene_dim": "4",
    "model.network.hidden": "[9]",
    "model.network.width": "2",
    "model.network.lstm_units": "4",
    "model.network.separate_critic": "true",
    "model.network.activation": "tanh",
    "data.num_envs": "32",
    "data.env": "epo_lightning.envs.classic.WallMaze",
}


class TestRefused:
    @pytest.mark.parametrize("key", REFUSED)
    def test_by_name_and_nothing_is_touched(self, cli: Cli, key: str) -> None:
        assert cli(*FIRST).code == 0
        files = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
        outcome = cli(*ON, 4, f"--{key}={REFUSED[key]}")
        assert outcome.code == 2
        assert outcome.err.startswith(f"error: --ckpt_path: {key}")
        assert "cannot change on resume" in outcome.err
        assert outcome.err.count("\n") == 1
        assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == files

    def test_the_genetic_algorithms_seed(self, cli: Cli) -> None:
        evolving = callbacks((GA, {"num_elites": 1}))
        Path("evolving.yaml").write_text(yaml.safe_dump(evolving))
        assert cli(*FIRST, "--config", "evolving.yaml").code == 0
        outcome = cli(*ON, 3, "--trainer.callbacks.seed=5")
        assert outcome.code == 2
        assert "trainer.callbacks.GeneticEvolution.seed" in outcome.err

    def test_another_kind_of_device(self, cli: Cli) -> None:
        assert cli(*FIRST).code == 0
        path = Path("run/checkpoints/last.ckpt")
        contents = torch.load(path, weights_only=True)
        contents["ranks"][0]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's is
        torch.save(contents, path)
        outcome = cli(*ON, 3)
        assert outcome.code == 2
        assert "--trainer.accelerator" in outcome.err


CUBES = ["--data.env=epo_lightning.envs.allegro_kuka.AllegroKuka", "--data.env.init_args.threads=1"]


class TestAllegroKuka:
    """An environment decides by itself what of its arguments can change."""

    def test_what_it_takes_over_and_what_not(self, cli: Cli, rows: Rows) -> None:
        assert cli(*FIRST, *CUBES, "--trainer.max_epochs=1").code == 0
        for key, value in (("objects", "cube"), ("gains", "original")):
            outcome = cli(*ON, 2, f"--data.env.init_args.{key}={value}")
            assert outcome.code == 2
            assert f"data.env.init_args.{key} must be " in outcome.err.splitlines()[-1]
        outcome = cli(*ON, 2, "--data.env.init_args.arm_speed=3", "--data.env.init_args.tolerance=0.05")
        assert outcome.code == 0, outcome.err
        assert said(outcome.out) == [
            "data.env.init_args.tolerance 0.075 -> 0.05",
            "data.env.init_args.arm_speed null -> 3.0",
        ]
        assert [float(row["env/tolerance"]) for row in rows(Path("run"))] == pytest.approx([0.075, 0.05])

    def test_an_evaluation_may_have_other_objects(self, cli: Cli) -> None:
        assert cli(*FIRST, *CUBES, "--trainer.max_epochs=1").code == 0
        other = ("--data.env.init_args.objects=cube", "--data.eval_episodes=2", "--data.eval_envs=2")
        assert cli("validate", "--ckpt_path=run", *other).code == 0
        outcome = cli("validate", "--ckpt_path=run", "--data.env.init_args.task=two_arm_hole")
        assert outcome.code == 2
        assert "task is AllegroKuka/two_arm, not AllegroKuka/two_arm_hole" in outcome.err.splitlines()[-1]


class TestHowLong:
    def test_below_what_is_done_is_a_mistake(self, cli: Cli) -> None:
        assert cli(*FIRST, "--trainer.max_epochs=3").code == 0
        outcome = cli(*ON, 2)
        assert outcome.code == 2
        assert outcome.err.splitlines()[-1] == (
            "error: trainer.max_epochs: the run has made 3 iterations, and 2 were asked for; to go on give more than 3"
        )

    def test_what_is_done_is_nothing_to_do(self, cli: Cli) -> None:
        assert cli(*FIRST).code == 0
        before = Path("run/config.yaml").read_text()
        outcome = cli(*ON, 2, "--model.loss.clip_eps=0.3")
        assert (outcome.code, said(outcome.out)) == (0, [])
        assert "Nothing to do: the run has made its 2 iterations; raise --trainer.max_epochs" in outcome.out
        assert Path("run/config.yaml").read_text() == before

    def test_the_line_that_continues_does(self, cli: Cli, rows: Rows) -> None:
        limits = ("--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:01")
        out = cli(*FIRST, *limits).out
        for _ in range(2):
            done = len(rows(Path("run")))
            (line,) = [line for line in out.splitlines() if line.startswith("Continue:")]
            outcome = cli(*shlex.split(line.partition("-m epo_lightning ")[2]))
            assert outcome.code == 0
            assert len(rows(Path("run"))) > done
            out = outcome.out

    def test_the_line_raises_the_number_of_iterations(self, cli: Cli, rows: Rows) -> None:
        (line,) = [line for line in cli(*FIRST).out.splitlines() if line.startswith("Continue:")]
        assert cli(*shlex.split(line.partition("-m epo_lightning ")[2])).code == 0
        assert len(rows(Path("run"))) == 4

    def test_time_of_earlier_invocations_is_not_kept(self) -> None:
        limit = TimeLimit("00:00:00:10", interval="epoch")
        limit._start_time["train"] = -1e9  # type: ignore[index]
        assert limit.state_dict() == {}
