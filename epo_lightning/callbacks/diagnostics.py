"""Why a population learns as it does: what its agents see and reach, and who pulls the shared network where.

Shape legend: K agents.
"""

import lightning as L
import torch
from torch import Tensor

from epo_lightning.experience.buffer import RolloutBuffer
from epo_lightning.experience.coverage import coverage, plane
from epo_lightning.experience.ranks import sum_over_ranks
from epo_lightning.limits import Mistake, require_range
from epo_lightning.modules import algorithm_name
from epo_lightning.modules.base import PopulationCallback, PopulationModule
from epo_lightning.modules.epo import EPOModule
from epo_lightning.modules.gradient_share import GradientShare, gradient_share

_KEY = "trainer.callbacks PopulationDiagnostics"


class PopulationDiagnostics(PopulationCallback):
    """Adds to the log of every iteration, without waiting for the device: `docs/running.md` has the names.

    Of each agent `agents/coverage` (share of the cells of a plane through the observations) and `agents/goals` (goals
    reached in the iteration), `population/coverage` of all agents together; and now and then, where the master learns
    from others' samples, `losses/off_policy_gradient_share` and
    `losses/off_policy_gradient_cosine`.

    Args:
        every_n_iterations: Iterations between two looks at the gradient.
        samples: Samples of such a look, at most; an eighth of the rollout where that is less.
    """

    def __init__(self, every_n_iterations: int = 10, samples: int = 2048) -> None:
        require_range(f"{_KEY}.every_n_iterations", every_n_iterations, 1)
        require_range(f"{_KEY}.samples", samples, 1)
        self.every_n_iterations, self.samples = every_n_iterations, samples
        self._axes: Tensor | None = None
        self._unknown = GradientShare(*torch.full((2,), torch.nan, dtype=torch.float64))

    def require_population(self, module: PopulationModule) -> None:
        """Refuse an algorithm without rollouts of a shared network."""
        if not isinstance(module, EPOModule):
            raise Mistake(
                f"{_KEY} looks at rollouts of a shared network, and the algorithm {algorithm_name(type(module))}"
                " has none: leave the callback out, or choose epo by --algorithm"
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: RolloutBuffer, batch_idx: int
    ) -> None:
        """The rollout is complete, and nothing was learnt from it yet."""
        assert isinstance(pl_module, EPOModule)
        dataset, agents = pl_module.dataset, pl_module.num_agents
        obs = batch.obs[:-1, : batch.envs]
        if self._axes is None:
            self._axes = plane(obs.shape[-1]).to(obs.device)
            self._unknown = GradientShare(*(value.to(obs.device) for value in self._unknown))
        own, together = coverage(obs, self._axes, dataset.agent_ids, agents)
        dataset.diagnostics["population/coverage"] = together
        if agents > 1:
            goals = dataset.population.sums(batch.successes.double().sum(0))
            sum_over_ranks(goals)
            dataset.of_agents |= {"coverage": own, "goals": goals}
        if batch.shape.off_policy_columns:
            due = trainer.current_epoch % self.every_n_iterations == 0
            told = self._look_at_the_gradient(pl_module, batch, trainer.current_epoch) if due else self._unknown
            for name, value in told._asdict().items():
                dataset.diagnostics[f"losses/off_policy_gradient_{name}"] = value

    def _look_at_the_gradient(self, module: EPOModule, batch: RolloutBuffer, iteration: int) -> GradientShare:
        """Of samples drawn anew, and the same when the run is repeated; coupled followers are not among them."""
        horizon, learnt = batch.shape.horizon, batch.shape.learnt_columns
        wanted, there = (self.samples // horizon, learnt) if batch.recurrent else (self.samples, learnt * horizon)
        count = max(1, min(wanted, there // 8))
        generator = torch.Generator(batch.obs.device).manual_seed(iteration)
        drawn = torch.randint(there, (count,), generator=generator, device=batch.obs.device)
        units = drawn // learnt * batch.shape.columns + drawn % learnt
        (sampled,) = batch.minibatches(units, 1)
        coefficient = module.entropy_coefficient.index_select(0, sampled.agent_ids)
        return gradient_share(module.policy, sampled, module.loss_settings, coefficient)
