"""A classifier of the agents. Axes: B samples, O observation, A action, K agents."""

import torch
from torch.nn import functional

from epo_lightning.learner.classifier import AgentClassifier


def test_written_out() -> None:
    """Layer by layer, one sample at a time; actions count as the environment takes them."""
    torch.manual_seed(0)
    classifier, obs, actions = (
        AgentClassifier(3, 2, 4, (7, 5), discrete=False),
        torch.randn(6, 3),
        2 * torch.randn(6, 2),
    )
    weights = dict(classifier.named_parameters())
    for row in range(6):
        x = torch.cat([obs[row], torch.stack([min(max(a, a.new_tensor(-1)), a.new_tensor(1)) for a in actions[row]])])
        for layer in (0, 2):
            x = functional.elu(weights[f"mlp.{layer}.weight"] @ x + weights[f"mlp.{layer}.bias"])
        odds = (weights["mlp.4.weight"] @ x + weights["mlp.4.bias"]).exp()
        torch.testing.assert_close(classifier(obs, actions)[row], (odds / odds.sum()).log())
    assert [tuple(weights[f"mlp.{layer}.weight"].shape) for layer in (0, 2, 4)] == [(7, 5), (5, 7), (4, 5)]


def test_choices_are_no_numbers() -> None:
    torch.manual_seed(0)
    classifier, obs = AgentClassifier(2, 3, 2, (), discrete=True), torch.zeros(3, 2)
    weights = dict(classifier.named_parameters())
    logits = weights["mlp.0.weight"][:, 2:].T + weights["mlp.0.bias"]  # choice c: the column of c alone
    torch.testing.assert_close(classifier(obs, torch.tensor([[0.0], [1.0], [2.0]])), logits.log_softmax(-1))
