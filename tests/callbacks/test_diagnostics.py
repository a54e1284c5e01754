"""What is told of a population beside its returns. Four agents with four environments each, four steps."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from epo_lightning.algorithm.batch import RolloutBatch
from epo_lightning.callbacks import PopulationDiagnostics, diagnostics
from epo_lightning.envs.base import StepResult
from epo_lightning.learner.networks import LatentActorCritic
from epo_lightning.limits import Mistake
from epo_lightning.modules.epo import EPOModule
from epo_lightning.modules.gradient_share import GradientShare, gradient_share
from epo_lightning.modules.sac import SACModule
from tests.support.agent_reward import AgentReward
from tests.support.training import Recorder, fit, small_data, small_module, train

GRADIENT = {"losses/off_policy_gradient_share", "losses/off_policy_gradient_cosine"}


class Goals(AgentReward):
    """In every step agent k reaches a goal in k of its environments; the observation is the environment's number."""

    def reset(self) -> Tensor:
        return torch.arange(float(self.spec.num_envs))[:, None]

    def step(self, actions: Tensor) -> StepResult:
        reached = torch.arange(self.spec.num_envs) % 4 < self.reward
        return super().step(actions)._replace(obs=self.reset(), successes=reached.float())


def run(folder: Path, iterations: int, agents: int = 4, **changes: Any) -> tuple[L.Trainer, list[dict[str, float]]]:
    settings = changes.pop("settings", {})
    module = small_module(agents, **changes.pop("module", {}))
    logger, callbacks = Recorder(), [PopulationDiagnostics(**settings)]
    data = small_data(16, Goals)
    trainer = fit(module, data, folder, iterations, logger=logger, callbacks=callbacks, **changes)
    return trainer, [row for row, _ in logger.calls]


def test_goals_and_coverage_of_every_agent(tmp_path: Path) -> None:
    _, rows = run(tmp_path, 2)
    for row in rows:
        # four steps
        assert [row[f"agents/goals/{k}"] for k in range(4)] == [0, 4, 8, 12]
        assert all(1 / 256 <= row[f"agents/coverage/{k}"] <= 4 / 256 for k in range(4))
    # in the second iteration observations are normalised: 16 numbers from -1.6 to 1.6
    assert max(rows[1][f"agents/coverage/{k}"] for k in range(4)) < rows[1]["population/coverage"] <= 10 / 256


def test_the_gradient_now_and_then(tmp_path: Path) -> None:
    _, rows = run(tmp_path, 5, settings={"every_n_iterations": 2, "samples": 64})
    assert [row.keys() >= GRADIENT for row in rows] == [True, False, True, False, True]
    assert all(GRADIENT.isdisjoint(rows[place]) for place in (1, 3))
    assert all(0 < rows[place]["losses/off_policy_gradient_share"] < 1 for place in (0, 2, 4))


@pytest.mark.parametrize("module", [{}, {"lstm_units": 4}, {"separate_critic": True}])
def test_what_is_learnt_is_the_same_without_them(tmp_path: Path, module: dict[str, Any]) -> None:
    one, _ = run(tmp_path, 2, module=module, settings={"every_n_iterations": 1})
    plain = small_module(**module)
    fit(plain, small_data(16, Goals), tmp_path, 2)
    assert isinstance(one.lightning_module, EPOModule)
    for name, value in one.lightning_module.policy.state_dict().items():
        assert torch.equal(value, plain.policy.state_dict()[name]), name


def test_a_resumed_run_tells_what_the_uninterrupted_one_does(tmp_path: Path) -> None:
    def plain(rows: list[dict[str, float]]) -> list[dict[str, float]]:
        return [{n: v for n, v in row.items() if not n.startswith(("time/", "charts/sps"))} for row in rows]

    settings = {"every_n_iterations": 2}
    _, whole = run(tmp_path, 4, settings=settings)
    trainer, first = run(tmp_path, 1, settings=settings)
    trainer.save_checkpoint(tmp_path / "one.ckpt", weights_only=False)
    _, second = run(tmp_path, 4, settings=settings, ckpt_path=tmp_path / "one.ckpt")
    assert plain(first + second) == plain(whole)


@pytest.mark.parametrize("network", [{}, {"lstm_units": 3}], ids=["mlp", "lstm"])
def test_samples_of_coupled_followers_are_in_no_part(
    tmp_path: Path, network: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RolloutBatch] = []

    def noted(policy: LatentActorCritic, batch: RolloutBatch, *settings: Any) -> GradientShare:
        seen.append(batch)
        return gradient_share(policy, batch, *settings)

    monkeypatch.setattr(diagnostics, "gradient_share", noted)
    module = small_module(loss={"coupling_coefficient": 0.1}, **network)
    train(module, small_data(64), tmp_path, 6, PopulationDiagnostics(1))
    assert sum(len(batch.agent_ids) for batch in seen) >= 50
    assert not any(batch.coupled().any() for batch in seen)
    off_policy = torch.cat([batch.off_policy for batch in seen]).float().mean().item()
    assert 0.1 < off_policy < 0.3  # 16 columns of 80


def test_one_agent_has_a_coverage_and_no_gradient_of_others(tmp_path: Path) -> None:
    _, rows = run(tmp_path, 1, agents=1)
    assert "population/coverage" in rows[0]
    assert not [name for name in rows[0] if name.startswith("agents/") or name in GRADIENT]


def test_who_learns_from_nobody_else_has_no_share(tmp_path: Path) -> None:
    _, rows = run(tmp_path, 1, module={"rollout": {"off_policy_ratio": 0.0}})
    assert GRADIENT.isdisjoint(rows[0])


@pytest.mark.parametrize("name", ["every_n_iterations", "samples"])
def test_at_least_one(name: str) -> None:
    with pytest.raises(Mistake, match=rf"PopulationDiagnostics\.{name} must be at least 1, got 0"):
        PopulationDiagnostics(**{name: 0})


def test_an_algorithm_without_rollouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match=r"PopulationDiagnostics looks at rollouts .* sac has none: leave the callback"):
        fit(SACModule(), small_data(16, Goals), tmp_path, 1, callbacks=[PopulationDiagnostics()])
