"""What coupling does to a population that trains."""

from pathlib import Path

from tests.support.training import fit, small_data, small_module


def trained(folder: Path, coefficient: float) -> dict[str, float]:
    """The last metrics of a population whose followers' entropy drives them away from the master."""
    module = small_module(
        4, loss={"entropy_scale": 1.0, "coupling_coefficient": coefficient}, rollout={"num_epochs": 4}
    )
    fit(module, small_data(64), folder, 40)
    return module.metrics


def test_coupled_followers_stay_near_and_their_samples_count(tmp_path: Path) -> None:
    alone, coupled = (trained(tmp_path, coefficient) for coefficient in (0.0, 1.0))
    far, near = (max(metrics[f"agents/kl_to_master/{k}"] for k in (1, 2, 3)) for metrics in (alone, coupled))
    assert near < far / 4
    assert coupled["losses/off_policy_ess"] > alone["losses/off_policy_ess"] + 0.2
    assert "losses/coupling_loss" not in alone
