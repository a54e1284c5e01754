"""The LightningModule in small trainings: what is logged and when, what is refused, and which networks train."""

import copy
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from epo_lightning.algorithm.losses import DIAGNOSTICS
from epo_lightning.callbacks import GeneticEvolution
from epo_lightning.envs.base import StepResult
from epo_lightning.learner.optimizer import GeneOptimizerSettings
from epo_lightning.modules.epo import EPOModule
from tests.support.agent_reward import AgentReward
from tests.support.clock import Clock
from tests.support.training import Recorder, fit, small_data, small_module, train

LOSSES = {f"losses/{name}" for name in (*DIAGNOSTICS, "total", "grad_norm", "explained_variance", "off_policy_ess")}
EPISODIC = {f"episodic_{name}" for name in ("return", "length", "successes", "coverage")}
CHARTS = EPISODIC | {"learning_rate", "sps", "env_steps", "iteration"}
POPULATION = {"population/return_mean", "population/return_best", "population/log_std", "population/gene_spread"}
TIMES = {f"time/{name}" for name in ("env", "inference", "targets", "learning", "framework")}
AGENTS = {f"agents/{name}/{k}" for name in ("return", "entropy") for k in range(4)} | {
    f"agents/{name}/{k}" for name in ("ess", "kl_to_master") for k in range(1, 4)
}
"""Of four agents on a task that counts no successes; the master is not compared with itself."""
NAMES = AGENTS | LOSSES | {f"charts/{name}" for name in CHARTS} | POPULATION | TIMES


class TestLog:
    @pytest.fixture
    def logger(self, tmp_path: Path) -> Recorder:
        """Of three iterations of AgentReward, 64 env steps and six minibatches each."""
        logger = Recorder()
        data = small_data(16, AgentReward)
        # every_n_steps 1 is the greediest that Lightning's own logging can be
        fit(small_module(rollout={"num_epochs": 3}), data, tmp_path, 3, logger=logger, log_every_n_steps=1)
        return logger

    def test_once_an_iteration_over_env_steps(self, logger: Recorder) -> None:
        assert [step for _, step in logger.calls] == [64, 128, 192]
        assert [metrics["charts/env_steps"] for metrics, _ in logger.calls] == [64, 128, 192]
        assert [metrics["charts/iteration"] for metrics, _ in logger.calls] == [1, 2, 3]

    def test_these_names_and_plain_numbers(self, logger: Recorder) -> None:
        for metrics, _ in logger.calls:
            assert set(metrics) == NAMES
            assert all(isinstance(value, int | float) and math.isfinite(value) for value in metrics.values())

    def test_returns_by_hand(self, logger: Recorder) -> None:
        # two steps pay twice the agent's number: 0, 2, 4, 6
        for metrics, _ in logger.calls:
            assert metrics["charts/episodic_return"] == 0.0
            assert metrics["charts/episodic_length"] == 2.0
            assert metrics["population/return_mean"] == 3.0
            assert metrics["population/return_best"] == 6.0
            assert [metrics[f"agents/return/{k}"] for k in range(4)] == [0.0, 2.0, 4.0, 6.0]

    def test_an_agent_has_a_return_when_all_of_its_environments_have_finished_an_episode(self, tmp_path: Path) -> None:
        class Slow(AgentReward):
            """Of agent 1 the last environment, of agent 2 all of them never finish; agent 3 succeeds in the third."""

            def step(self, actions: torch.Tensor) -> StepResult:
                result = super().step(actions)
                ends, successes = result.terminated.clone(), result.successes.clone()
                ends[7:12] = False
                successes[12:] = float(self.clock > 8)
                return result._replace(terminated=ends, successes=successes)

        logger = Recorder()
        fit(small_module(), small_data(16, Slow), tmp_path, 3, logger=logger)
        told = [{n: v for n, v in row.items() if n.startswith(("agents/r", "agents/s"))} for row, _ in logger.calls]
        returns = {"agents/return/0": 0.0, "agents/return/3": 6.0}
        # successes are told from the first one on: before, a task may not count any
        assert told == [returns, returns, returns | {"agents/successes/0": 0.0, "agents/successes/3": 2.0}]
        assert [row["population/return_mean"] for row, _ in logger.calls] == [3.0] * 3  # agents 0 and 3

    def test_one_agent_has_no_metrics_of_agents(self, tmp_path: Path) -> None:
        module = small_module(1)
        train(module, small_data(), tmp_path, 1)
        assert "charts/episodic_return" in module.metrics
        assert not [name for name in module.metrics if name.startswith("agents/")]

    def test_without_followers_samples_there_are_no_weights(self, tmp_path: Path) -> None:
        module = small_module(rollout={"off_policy_ratio": 0.0})
        train(module, small_data(), tmp_path, 1)
        told = {name.split("/")[1] for name in module.metrics if name.startswith("agents/")}
        assert told - {"successes"} == {"return", "entropy", "kl_to_master"}

    def test_the_parts_of_the_time_by_hand(self, tmp_path: Path) -> None:
        class Cut(AgentReward):
            """Its episodes of two steps are cut off."""

            def step(self, actions: torch.Tensor) -> StepResult:
                result = super().step(actions)
                ends = result.terminated
                return result._replace(terminated=torch.zeros_like(ends), truncated=ends, final_obs=result.obs)

        logger = Recorder()
        module = small_module(rollout={"num_epochs": 3})
        fit(module, small_data(16, Cut), tmp_path, 3, logger=logger, callbacks=[Clock()])
        assert len(logger.calls) == 3
        for metrics, _ in logger.calls:
            # four steps; a forward pass before each of them, and after two of them the agents' and the master's value
            # of what was cut off; one pass to relabel, one to compare with the master; one for each of six minibatches
            parts = {"env": 4.0, "inference": (4 + 2 * 2) / 4, "targets": 2 / 4, "learning": 6 / 4}
            # the rest: the value of the last state, and what happens around the iteration's one batch
            parts["framework"] = 1 / 4 + 16
            assert {name: metrics[f"time/{name}"] for name in parts} == parts
            assert metrics["charts/sps"] == 64 / sum(parts.values())

    def test_callbacks_find_the_metrics_too(self, tmp_path: Path) -> None:
        module, data = small_module(), small_data(16, AgentReward)
        trainer = train(module, data, tmp_path, 1)
        assert set(trainer.callback_metrics) >= NAMES
        assert trainer.callback_metrics["charts/env_steps"] == 64

    def test_generations_are_counted(self, tmp_path: Path) -> None:
        logger = Recorder()
        evolution = GeneticEvolution(64, warmup_env_steps=128, num_elites=1, spread_threshold=0.0)
        data = small_data(16, AgentReward)
        fit(small_module(), data, tmp_path, 3, logger=logger, callbacks=[evolution])
        assert [metrics["charts/generation"] for metrics, _ in logger.calls] == [0, 1, 2]

    def test_no_episode_no_return(self, tmp_path: Path) -> None:
        """An episode of two steps has not ended after one: the return is missing, not zero or NaN."""
        logger = Recorder()
        module = small_module(rollout={"horizon": 1, "off_policy_ratio": 3.0})  # samples of every follower
        fit(module, small_data(16, AgentReward), tmp_path, 2, logger=logger)
        missing = {
            "charts/episodic_return",
            "charts/episodic_length",
            "charts/episodic_successes",
            "population/return_mean",
            "population/return_best",
            *(f"agents/return/{k}" for k in range(4)),
        }
        assert set(logger.calls[0][0]) == NAMES - missing
        assert set(logger.calls[1][0]) == NAMES

    def test_losses_are_means_over_the_minibatches(self, tmp_path: Path) -> None:
        module = small_module(rollout={"num_epochs": 2})
        totals: list[float] = []

        class Sum(L.Callback):
            def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
                totals.extend(total.item() for total in module.minibatches.totals)

        train(module, small_data(), tmp_path, 2, Sum())
        assert len(totals) == 8
        assert module.metrics["losses/total"] == pytest.approx(sum(totals[4:]) / 4, rel=1e-5)

    @pytest.mark.parametrize(("learning_rate", "target_kl"), [(3e-4, 5e-5), (3e-3, 1e-5)])
    def test_the_learning_rate_is_adapted_by_the_kl_of_each_pass(
        self, tmp_path: Path, learning_rate: float, target_kl: float
    ) -> None:
        """Targets among the KLs of these passes, where neither a sum of two of them nor two passes together will do."""
        module = small_module(rollout={"num_epochs": 3})
        module.optimizer_settings = GeneOptimizerSettings(learning_rate=learning_rate, target_kl=target_kl)
        factors, expected = [], []

        class Passes(L.Callback):
            """What the rate is multiplied by in an iteration, and what the rule says to the KLs of two minibatches."""

            def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                self.rate = trainer.optimizers[0].param_groups[0]["lr"].item()

            def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
                place = DIAGNOSTICS.index("approx_kl")
                kls = [diagnostics[place].item() for diagnostics in module.minibatches.diagnostics]
                passes = [(kls[end - 2] + kls[end - 1]) / 2 for end in (2, 4, 6)]
                factors.append(trainer.optimizers[0].param_groups[0]["lr"].item() / self.rate)
                low, high = target_kl / 2, 2 * target_kl
                expected.append([1 / 1.5 if kl > high else 1.5 if kl < low else 1.0 for kl in passes])

        train(module, small_data(), tmp_path, 2, Passes())
        assert factors == pytest.approx([math.prod(each) for each in expected], rel=1e-5)
        assert {factor for each in expected for factor in each} >= {1.0, 1 / 1.5}

    @pytest.mark.parametrize("num_agents", [1, 4])
    def test_genes_of_several_agents_have_a_rate_of_their_own(self, tmp_path: Path, num_agents: int) -> None:
        module = small_module(num_agents)
        module.optimizer_settings = GeneOptimizerSettings(gene_rate=0.0)
        before: dict[str, torch.Tensor] = {}

        class Look(L.Callback):
            def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                before.update({name: value.clone() for name, value in module.policy.named_parameters()})

        train(module, small_data(), tmp_path, 2, Look())
        same = {name for name, value in module.policy.named_parameters() if torch.equal(value, before[name])}
        assert same == ({"genes"} if num_agents > 1 else set())

    def test_the_learning_rate_follows_each_pass(self, tmp_path: Path) -> None:
        """Three passes of hardly any KL: x 1.5 three times, from 3e-4."""
        module, data = small_module(rollout={"num_epochs": 3}), small_data()
        module.optimizer_settings = type(module.optimizer_settings)(target_kl=1e6)
        train(module, data, tmp_path, 1)
        assert module.metrics["charts/learning_rate"] == pytest.approx(3e-4 * 1.5**3, rel=1e-5)


class TestReplaceAgents:
    def test_in_place(self, tmp_path: Path) -> None:
        module, data = small_module(lstm_units=4), small_data()
        trainer = train(module, data, tmp_path, 2)
        policy, dataset = module.policy, module.dataset
        assert dataset is not None
        others = {name: value.clone() for name, value in policy.state_dict().items()}
        parameters = [policy.genes, policy.log_std]
        storages = [parameter.data_ptr() for parameter in parameters]
        adam = copy.deepcopy([trainer.optimizers[0].state[parameter] for parameter in parameters])

        genome = {"genes": torch.full((2, 3), 7.0), "log_std": torch.tensor([[0.1, 0.2], [0.3, 0.4]])}
        module.replace_agents(torch.tensor([3, 1]), genome)

        assert policy.genes is parameters[0]
        assert policy.log_std is parameters[1]
        assert [parameter.data_ptr() for parameter in parameters] == storages
        assert policy.genes[[1, 3]].tolist() == [[7.0] * 3] * 2
        torch.testing.assert_close(policy.log_std[[3, 1]], torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
        for name, value in policy.state_dict().items():
            rows = [0, 2] if name in ("genes", "log_std") else slice(None) if value.dim() else ...
            assert torch.equal(value[rows], others[name][rows]), name
        for parameter, before in zip(parameters, adam, strict=True):
            for moment in ("exp_avg", "exp_avg_sq"):
                after = trainer.optimizers[0].state[parameter][moment]
                assert torch.all(after[[1, 3]] == 0)
                assert torch.equal(after[[0, 2]], before[moment][[0, 2]])
        # 4 environments an agent; the two new individuals get the next numbers, in the order in which they are named
        assert dataset.individuals.tolist() == [0, 5, 2, 4]
        assert dataset.fitness.opened_at == dataset.env_steps
        assert dataset.state[:, 4:8].abs().max() == 0


class TestRefusals:
    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Path:
        trainer = train(small_module(), small_data(), tmp_path, 1)
        trainer.save_checkpoint(tmp_path / "one.ckpt", weights_only=False)
        return tmp_path / "one.ckpt"

    @pytest.mark.parametrize(
        ("num_agents", "network", "words"),
        [
            (2, {}, r"model\.num_agents 4, not 2"),
            (4, {"gene_dim": 5}, r"model\.network\.gene_dim 3, not 5"),
            (4, {"hidden": (8, 8)}, r"model\.network\.hidden \(8,\), not \(8, 8\)"),
            (4, {"lstm_units": 8}, r"model\.network\.lstm_units None, not 8"),
            (4, {"separate_critic": True}, r"model\.network\.separate_critic False, not True"),
            (4, {"width": 2}, r"model\.network\.width 1, not 2"),
        ],
    )
    def test_another_network(self, checkpoint: Path, num_agents: int, network: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=rf"--ckpt_path does not match.* it has {words}"):
            fit(small_module(num_agents, **network), small_data(), checkpoint.parent, 2, ckpt_path=checkpoint)

    def test_another_number_of_environments(self, checkpoint: Path) -> None:
        with pytest.raises(ValueError, match=r"data\.num_envs 16"):
            fit(small_module(), small_data(32), checkpoint.parent, 2, ckpt_path=checkpoint)

    def test_the_same_network_goes_on(self, checkpoint: Path) -> None:
        module = small_module()
        fit(module, small_data(), checkpoint.parent, 2, ckpt_path=checkpoint)
        assert module.metrics["charts/env_steps"] == 128

    def test_a_foreign_checkpoint(self, checkpoint: Path) -> None:
        contents = torch.load(checkpoint, weights_only=True)
        del contents["identity"]
        torch.save(contents, checkpoint)
        with pytest.raises(ValueError, match="does not say for which network its weights are"):
            fit(small_module(), small_data(), checkpoint.parent, 2, ckpt_path=checkpoint)

    def test_clipping_by_the_trainer(self, tmp_path: Path) -> None:
        with pytest.raises(MisconfigurationException, match=r"Remove `Trainer\(gradient_clip_val=0\.5\)`"):
            fit(small_module(), small_data(), tmp_path, 1, gradient_clip_val=0.5)

    @pytest.mark.parametrize("num_agents", [0, -1])
    def test_no_agents(self, num_agents: int) -> None:
        with pytest.raises(ValueError, match=r"model\.num_agents must be at least 1"):
            EPOModule(num_agents)


class TestVariants:
    @staticmethod
    def assert_trained(module: EPOModule, before: dict[str, torch.Tensor]) -> None:
        for name, parameter in module.policy.named_parameters():
            assert parameter.dtype == torch.float32, name
            assert torch.isfinite(parameter).all(), name
            assert parameter.numel() == 0 or not torch.equal(parameter, before[name]), f"{name} was not trained"

    @pytest.mark.parametrize(
        ("num_agents", "network"),
        [
            (4, {"separate_critic": True}),
            (4, {"separate_critic": True, "lstm_units": 4}),
            (4, {"lstm_units": 4}),
            (1, {"gene_dim": 0}),
            (1, {"gene_dim": 0, "lstm_units": 4}),
            (16, {}),  # one environment an agent
        ],
    )
    @pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
    def test_trains(self, tmp_path: Path, num_agents: int, network: dict[str, Any], precision: str) -> None:
        module, data = small_module(num_agents, loss={"entropy_floor": 0.01}, **network), small_data()
        before: dict[str, torch.Tensor] = {}

        class Before(L.Callback):
            def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                before.update({name: p.detach().clone() for name, p in module.policy.named_parameters()})

        fit(module, data, tmp_path, 3, precision=precision, callbacks=[Before()])
        self.assert_trained(module, before)
        assert all(math.isfinite(value) for value in module.metrics.values())
        assert 1e-8 < module.metrics["losses/approx_kl"] < 0.5

    def test_bf16_really_computes_in_bf16(self, tmp_path: Path) -> None:
        dtypes: set[torch.dtype] = set()

        class Watch(L.Callback):
            def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                assert isinstance(pl_module, EPOModule)
                pl_module.policy.actor.register_forward_hook(lambda module, args, output: dtypes.add(output[0].dtype))

        module = small_module()
        fit(module, small_data(), tmp_path, 1, precision="bf16-mixed", callbacks=[Watch()])
        assert dtypes == {torch.bfloat16}  # when acting, when relabelling and when learning
        assert module.dataset.buffer.values.dtype == torch.float32

    def test_gene_dim_0_is_for_one_agent(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"model\.network\.gene_dim must be at least 1 with 4 agents"):
            train(small_module(4, gene_dim=0), small_data(), tmp_path, 1)

    def test_log_std_stays_in_its_range(self, tmp_path: Path) -> None:
        module = small_module(loss={"entropy_floor": 5.0}, rollout={"num_epochs": 4}, log_std_max=0.001)
        train(module, small_data(), tmp_path, 3)
        assert module.policy.log_std.max().item() == pytest.approx(0.001)
        assert module.policy.log_std.max() <= torch.tensor(0.001)
