"""Off-policy targets of several steps, row by row.

Axes: T horizon, N environments.
"""

import pytest
import torch
from torch.distributions import Normal

from epo_lightning.algorithm.population import MASTER
from tests.support.scripted import (
    GAMMA,
    NETWORKS,
    N,
    Reference,
    T,
    agent_of,
    both_networks,
    locate,
    make_dataset,
    make_policy,
    units_of_reward,
    with_endings,
)


@pytest.mark.parametrize("tells_final_obs", [True, False])
@both_networks
def test_whole_sequences_as_the_master_sees_them(network: str, tells_final_obs: bool) -> None:
    """V-trace from behind, with the master's values and states, and both agents' densities, each of one row."""
    env, policy = with_endings(), make_policy(**NETWORKS[network])
    if not tells_final_obs:
        env.final_obs = None
    dataset = make_dataset(env, policy, off_policy_target="v_trace", mu_cap=0.5)
    dataset.lacks_final_obs = not tells_final_obs  # the warning has been given
    capped = 0
    for start in (0, T):  # the second rollout begins in the middle of episodes
        reference, stored = Reference(policy), dataset.state.clone()
        dataset.collect()
        buffer = dataset.buffer
        found = locate(dataset)
        sources = [source for _, source in found[:4]]
        assert found == [(t, source) for t in range(T) for source in sources]
        targets, values = (units_of_reward(dataset, field) for field in (buffer.targets, buffer.values))
        # the advantages of all samples are normalised together: a line leads from ours to theirs
        pairs = []
        for column, source in enumerate(sources, N):
            state = own_state = stored[:, [source]]
            rows = []
            for t in range(T):
                now = start + t
                mean, value, state = reference(env.obs[now, source], MASTER, state)
                own_mean, _, own_state = reference(env.obs[now, source], agent_of(source), own_state)
                log_probs = [
                    Normal(m, policy.log_std[k].detach().exp()).log_prob(buffer.actions[t, source]).sum().item()
                    for m, k in ((mean, MASTER), (own_mean, agent_of(source)))
                ]
                terminated, truncated = bool(env.terminated[now, source]), bool(env.truncated[now, source])
                if truncated:
                    shown = env.final_obs
                    following = value if shown is None else reference(shown[now, source], MASTER, state)[1]
                else:
                    following = 0.0 if terminated else reference(env.obs[now + 1, source], MASTER, state)[1]
                delta = env.reward[now, source].item() + GAMMA * following - value
                rows.append((value, delta, log_probs[0] - log_probs[1], terminated or truncated))
                if terminated or truncated:
                    state = own_state = reference.fresh_state()
            ahead = 0.0
            for t, (value, delta, log_mu, done) in reversed([*enumerate(rows)]):
                advantage = delta + (0.0 if done else GAMMA * ahead)
                ahead = min(1.0, torch.tensor(log_mu).exp().item()) * advantage
                capped += log_mu > 0
                assert targets[t, column].item() == pytest.approx(value + ahead, abs=3e-4)
                assert values[t, column].item() == pytest.approx(value, abs=3e-4)
                pairs.append((advantage, buffer.advantages[t, column].item()))
        ours, theirs = torch.tensor(pairs).T
        line = torch.stack([ours, torch.ones_like(ours)], dim=1)
        torch.testing.assert_close(line @ torch.linalg.lstsq(line, theirs[:, None]).solution[:, 0], theirs,
                                   rtol=0, atol=2e-3)  # fmt: skip
    assert 5 < capped < 35


def test_the_first_minibatch_has_the_ratio_one_on_policy_and_mu_off_policy() -> None:
    dataset = make_dataset(off_policy_target="v_trace")
    dataset.collect()
    for batch in dataset.one_pass():
        rows = dataset.policy.express(batch.agent_ids)
        log_probs = dataset.policy(batch.obs, rows, batch.states, batch.resets).actions.log_prob(batch.actions)
        torch.testing.assert_close(log_probs - batch.log_probs, batch.log_mu, rtol=0, atol=2e-5)
