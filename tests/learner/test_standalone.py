"""What a file keeps of a network does to the bit what the network does, and holds nothing that learns."""

import pytest
import torch

from epo_lightning.learner.policy import AsItActs, Policy
from epo_lightning.limits import Mistake
from tests.support.exported import ACT, AGENTS, make, observations

KINDS = [
    "epo",
    "epo separate",
    "epo lstm separate",
    "epo choice",
    "epo lstm choice",
    "ppo lstm",
    "pbt",
    "pbt lstm separate",
]
KINDS += ["pbt lstm choice", "cem_rl", "sac", "pql"]
ROWS = 6


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("everybody", [True, False])
def test_it_does_what_the_network_does(name: str, everybody: bool) -> None:
    policy, discrete, who = make(name)
    module = policy.standalone(policy.champion, discrete=discrete, everybody=everybody)
    has_choice = who == "gene" or (everybody and who == "agent")
    assert (None if module.who is None else module.who.name) == (who if has_choice else None)
    for agent in range(policy.num_agents) if has_choice else [policy.champion]:
        state = policy.initial_state(ROWS)
        memory = [torch.zeros(ROWS, *port.shape) for port in module.memory]
        chosen = [] if module.who is None else [module.who.of(agent)]
        for step in range(3):
            obs = observations(ROWS, step)
            actions, state = policy.act(obs, torch.full((ROWS,), agent), state)
            said = dict(zip(module.outputs, module(obs, *chosen, *memory), strict=True))
            torch.testing.assert_close(said["action"], actions, atol=1e-6, rtol=0)
            memory = [said[f"{port.name}_out"] for port in module.memory]
            if memory:
                torch.testing.assert_close(torch.stack(memory), state[:2], atol=1e-6, rtol=0)
    assert bool(module.memory) == ("lstm" in name)


def test_genes_may_differ_from_row_to_row_and_need_be_nobodys() -> None:
    policy = make("epo").policy
    module = policy.standalone(0, discrete=False)
    assert module.who is not None
    obs, genes = observations(AGENTS, 0), module.who.values
    actions, _ = policy.act(obs, torch.arange(AGENTS), policy.initial_state(AGENTS))
    torch.testing.assert_close(module(obs, genes)[0], actions)
    between = module(obs, 0.5 * (genes[:1] + genes[1:2]))[0]
    assert not torch.allclose(between, module(obs, genes[:1])[0])


def test_actions_are_clipped_as_the_task_wants_them() -> None:
    policy = make("epo").policy
    policy.action_head.bias.data.fill_(3.0)  # type: ignore[union-attr,operator]
    module = policy.standalone(0, discrete=False)
    assert module.who is not None
    assert module(observations(5, 0), module.who.of(0))[0].eq(1).all()


def test_it_holds_no_critic_and_of_one_agent_no_others() -> None:
    names = [name for name, _ in make("epo separate").policy.standalone(0, discrete=False).named_parameters()]
    assert names
    assert not [name for name in names if "critic" in name or "value" in name or "log_std" in name]
    policy = make("pbt").policy
    for everybody, count in ((False, 1), (True, AGENTS)):
        module = policy.standalone(2, discrete=False, everybody=everybody)
        assert {parameter.shape[0] for parameter in module.parameters()} == {count}


class OneTwo(Policy):
    """Somebody's own: the action is a number of the agent, and counts its steps."""

    num_agents = 2

    def __init__(self) -> None:
        super().__init__()
        self.step = torch.nn.Parameter(torch.ones(ACT))

    def initial_state(self, rows: int, device: torch.device | None = None) -> torch.Tensor:
        return torch.zeros(1, rows, 1, device=device)

    def act(
        self, obs: torch.Tensor, agent_ids: torch.Tensor, state: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        state = state + 0.1
        return agent_ids[:, None] * self.step.detach() * state[0], state


def test_a_network_of_ones_own_is_kept_as_it_acts_one_agent_at_a_time() -> None:
    module = OneTwo().standalone(1, discrete=False)
    assert isinstance(module, AsItActs)
    assert (module.inputs, module.outputs) == (["observation", "state"], ["action", "state_out"])
    obs = observations(2, 0)
    action, state = module(obs, torch.zeros(2, 1, 1))
    torch.testing.assert_close(action, torch.full((2, ACT), 0.1))
    torch.testing.assert_close(module(obs, state)[0], torch.full((2, ACT), 0.2))
    with pytest.raises(Mistake, match="exports one agent at a time"):
        OneTwo().standalone(0, discrete=False, everybody=True)
