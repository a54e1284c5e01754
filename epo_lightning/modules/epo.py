"""The LightningModule: a population's network, its hybrid loss and its optimizer.

Shape legend: K agents, Z gene entries, A action entries, M replaced agents.

Automatic optimisation: one Lightning batch is one minibatch and one optimizer step, one Lightning epoch is one
iteration. Nothing is logged per minibatch: diagnostics are summed on the device and leave it once per iteration.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.algorithm.genome import Genome
from epo_lightning.algorithm.losses import DIAGNOSTICS, LossSettings, entropy_coefficients, hybrid_loss
from epo_lightning.algorithm.population import MASTER
from epo_lightning.experience.episodes import QUANTITIES, AgentMean
from epo_lightning.experience.evaluation import Episodes, summarize
from epo_lightning.learner.networks import LatentActorCritic, NetworkSettings
from epo_lightning.learner.optimizer import (
    OptimizerSettings,
    adapt_learning_rate,
    build_adam,
    clip_gradients,
    restart_adam,
)
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules.base import PopulationModule
from epo_lightning.modules.identity import CHANGEABLE, identity, require_same_identity

LAYOUT = 2
"""Of what a checkpoint keeps for a run that goes on; raised when that changes."""


class EPOModule(PopulationModule):
    """Evolutionary Policy Optimization without its evolution, which callbacks add.

    With one agent this is PPO, with several SAPG; with `epo_lightning.callbacks.GeneticEvolution` it is EPO.

    Args:
        num_agents: K, agents in the population; agent 0 is the master.
        network: The shared network.
        loss: The hybrid loss.
        optimizer: Adam and its adaptive learning rate.
    """

    entropy_coefficient: Tensor
    kl_before: Tensor
    policy: LatentActorCritic

    def __init__(
        self,
        num_agents: int = 1,
        network: NetworkSettings = NetworkSettings(),  # noqa: B008  (frozen)
        loss: LossSettings = LossSettings(),  # noqa: B008
        optimizer: OptimizerSettings = OptimizerSettings(),  # noqa: B008
    ) -> None:
        super().__init__(DIAGNOSTICS)
        require_range("model.num_agents", num_agents, 1)
        self.num_agents = num_agents
        self.network_settings, self.loss_settings, self.optimizer_settings = network, loss, optimizer
        coefficients = entropy_coefficients(num_agents, loss.entropy_scale, loss.entropy_floor)
        self.register_buffer("entropy_coefficient", coefficients, persistent=False)
        self.register_buffer("kl_before", torch.zeros(()), persistent=False)
        self.recent_episodes = AgentMean(num_agents)

    def configure_model(self) -> None:
        """Build the network once the environments have told their sizes."""
        if not hasattr(self, "policy"):
            spec = self.data.spec
            self.policy = LatentActorCritic(
                spec.obs_dim, spec.act_dim, self.num_agents, self.network_settings, spec.discrete
            )

    def configure_optimizers(self) -> torch.optim.Adam:
        """One Adam for everything; fused where gradients can still be clipped."""
        fused = self.trainer.precision != "16-mixed"
        return build_adam(self.policy.parameters(), self.optimizer_settings, fused=fused)

    # Training -------------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """A new iteration."""
        self._clock = self.dataset.clock
        self._started = self._clock()
        self._learning_seconds = 0.0
        self.sums.reset()
        self.kl_before.zero_()

    def training_step(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        """The hybrid loss of one minibatch."""
        rows = self.policy.express(batch.agent_ids)
        output = self.policy(batch.obs, rows, batch.states, batch.resets)
        coefficient = self.entropy_coefficient[batch.agent_ids]
        loss = hybrid_loss(output.actions, output.value, batch, self.loss_settings, coefficient)
        self.sums.diagnostics.add_(loss.diagnostics)
        self.sums.total.add_(loss.total.detach())
        return loss.total

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Forward, backward and Adam happen in here; afterwards log-stds return to their range."""
        start = self._clock()
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.policy.clamp_log_std()
        passes = self.data.rollout.num_minibatches
        if (batch_idx + 1) % passes == 0:
            self._adapt_learning_rate(optimizer, passes)
        self._learning_seconds += self._clock() - start

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip to `model.optimizer.max_grad_norm`; the norm is kept for the log and for NaN checks."""
        if gradient_clip_val is not None:
            raise Mistake("trainer.gradient_clip_val must stay unset: use model.optimizer.max_grad_norm")
        parameters = optimizer.param_groups[0]["params"]
        self.sums.grad_norm.add_(clip_gradients(parameters, self.optimizer_settings.max_grad_norm))

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Drop the gradients; the optimizer's own method takes ten times as long to do so."""
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = None

    def _adapt_learning_rate(self, optimizer: torch.optim.Optimizer | LightningOptimizer, minibatches: int) -> None:
        kl = (self.sums["approx_kl"] - self.kl_before) / minibatches
        if self.trainer.world_size > 1:
            dist.all_reduce(kl)
            kl /= self.trainer.world_size
        adapt_learning_rate(optimizer.param_groups[0]["lr"], kl, self.optimizer_settings)
        self.kl_before.copy_(self.sums["approx_kl"])

    def on_train_start(self) -> None:
        """What was restored obeys the present settings."""
        restart_adam(self._adam(), self.optimizer_settings)
        self.policy.clamp_log_std()

    def _adam(self) -> torch.optim.Adam:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Adam)
        return optimizer

    @property
    def genome(self) -> Genome:
        """The latent genes, and the log-stds."""
        policy = self.policy
        return Genome({"genes": policy.genes, "log_std": policy.log_std}, self._adam(), averaged=["log_std"])

    # Evaluation -----------------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Nothing played yet."""
        self.episodes = []

    def validation_step(self, batch: Episodes, batch_idx: int) -> None:
        """One batch is this rank's episodes of one seed: gather those of all ranks, sum up those of all seeds."""
        parts = [batch.totals]
        if self.trainer.world_size > 1:
            parts = [torch.empty_like(batch.totals) for _ in range(self.trainer.world_size)]
            dist.all_gather(parts, batch.totals)
        self.episodes.append(torch.cat(parts, dim=1))
        self.evaluation = summarize(torch.stack(self.episodes))

    on_test_start, test_step = on_validation_start, validation_step

    # The log --------------------------------------------------------------------------------------------------------

    def on_train_epoch_end(self) -> None:
        """Gather the iteration's diagnostics, move them to the host at once, and log them over env steps."""
        dataset = self.dataset
        elapsed = self._clock() - self._started
        self.recent_episodes.update(dataset.ledger.last, dataset.ledger.has_finished)
        means, known_envs = self.recent_episodes.compute()
        self.recent_episodes.reset()
        scalars = {
            **{f"losses/{name}": value for name, value in self.sums.means(self.trainer.num_training_batches).items()},
            **dataset.diagnostics,
            **{f"charts/episodic_{name}": means[row, MASTER] for row, name in enumerate(QUANTITIES)},
            "charts/episodic_coverage": known_envs.view(-1)[MASTER]
            / (dataset.population.envs_per_agent * dataset.world_size),
            "charts/learning_rate": self._adam().param_groups[0]["lr"],
            "population/return_mean": means[0].nanmean(),
            "population/return_best": torch.where(
                means[0].isnan().all(), torch.nan, means[0].nan_to_num(nan=-torch.inf).max()
            ),
            "population/log_std": self.policy.log_std.mean(),
            "population/gene_spread": self.policy.genes.std(0).mean() if self.num_agents > 1 else means.new_zeros(()),
        }
        values = torch.stack([value.detach().to(torch.float64) for value in scalars.values()]).tolist()
        for name in [name for name in self.metrics if name.startswith("env/") and name not in scalars]:
            del self.metrics[name]  # told in an earlier iteration, and not in this one
        self.metrics |= dict(zip(scalars, values, strict=True))
        self.metrics |= self._times(elapsed, dataset.seconds)
        self.metrics |= {
            "charts/sps": len(dataset.agent_ids) * dataset.world_size * self.data.rollout.horizon / elapsed
        }
        self.metrics |= {"charts/env_steps": dataset.env_steps, "charts/iteration": self.current_epoch + 1}
        known = {name: value for name, value in self.metrics.items() if not math.isnan(value)}
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in known.items()})
        for logger in self.trainer.loggers:
            logger.log_metrics(known, step=dataset.env_steps)
            logger.save()

    def _times(self, elapsed: float, rollout: dict[str, float]) -> dict[str, float]:
        parts = {**rollout, "learning": self._learning_seconds}
        return {f"time/{name}": value for name, value in {**parts, "framework": elapsed - sum(parts.values())}.items()}

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the network was built for."""
        checkpoint["epo"] = {**self._identity(), "layout": LAYOUT}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another population, network or task by name; to train on, one of another layout."""
        if "epo" not in checkpoint:
            raise Mistake("--ckpt_path is not a checkpoint of epo_lightning")
        require_same_identity(checkpoint["epo"], self._identity(), may_differ=CHANGEABLE)
        if checkpoint["epo"].get("layout") != LAYOUT:
            if self.trainer.training:
                raise Mistake(
                    "--ckpt_path was written by another version of epo_lightning, which kept other things of a running"
                    " training: validate, test and play it, or start a new run"
                )
            checkpoint["callbacks"] = {}  # Lightning restores them for an evaluation, too, which needs none
        own, saved = self.state_dict(), checkpoint["state_dict"]
        unlike = [name for name in own.keys() | saved.keys() if name not in own or name not in saved]
        if unlike:
            raise Mistake(f"--ckpt_path does not match this run: its weights lack, or have too much, {min(unlike)!a}")

    def _identity(self) -> dict[str, Any]:
        return identity(self.num_agents, self.network_settings, self.data.spec)
