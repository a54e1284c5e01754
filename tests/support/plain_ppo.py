"""PPO of one policy, written out: linear layers, loops over steps, torch's own Adam. Batched trainings are held to it.

Shape legend: T steps, n environments, O observation, A action, H LSTM units.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal


class Recorded(NamedTuple):
    """What one policy met in one iteration: tensors (T, n, ...), `obs` (T + 1, n, O), and its minibatches.

    `passes` holds for each pass the (step, environment) of the samples of every minibatch.
    """

    obs: Tensor
    actions: Tensor
    log_probs: Tensor
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor
    passes: list[list[tuple[Tensor, Tensor]]]


class PlainTrunk(nn.Module):
    """[LSTM -> LayerNorm ->] MLP, with the weights `own` whose names begin with `part`."""

    def __init__(self, own: dict[str, Tensor], part: str) -> None:
        super().__init__()
        self.cell: nn.LSTMCell | None = None
        if f"{part}.input.weight" in own:
            weight = own[f"{part}.input.weight"]
            units = weight.shape[0] // 4
            self.cell, self.norm = nn.LSTMCell(weight.shape[1], units), nn.LayerNorm(units)
            self.cell.weight_ih, self.cell.bias_ih = nn.Parameter(weight), nn.Parameter(own[f"{part}.input.bias"])
            self.cell.weight_hh = nn.Parameter(own[f"{part}.memory.weight"])
            self.cell.bias_hh = nn.Parameter(own[f"{part}.memory.bias"])
            self.norm.weight = nn.Parameter(own[f"{part}.norm.weight"])
            self.norm.bias = nn.Parameter(own[f"{part}.norm.bias"])
        names = [name.removesuffix(".weight") for name in own if name.startswith(f"{part}.mlp.") and "weight" in name]
        self.mlp = nn.Sequential(*(each for name in sorted(names) for each in (_linear(own, name), nn.ELU())))

    def start(self, rows: int) -> Tensor | None:
        return None if self.cell is None else torch.zeros(2, rows, self.cell.hidden_size)

    def forward(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.cell is not None:
            assert state is not None
            hidden, cell = self.cell(x, (state[0], state[1]))
            x, state = self.norm(hidden), torch.stack([hidden, cell])
        return self.mlp(x), state


class PlainNetwork(nn.Module):
    """One actor with its critic, with the weights of network `k` of a stacked one."""

    def __init__(self, weights: dict[str, Tensor], k: int, discrete: bool) -> None:
        super().__init__()
        own = {name: value[k].clone() for name, value in weights.items() if value.dim() > 0}
        self.discrete = discrete
        self.log_std = nn.Parameter(own["log_std"], requires_grad=not discrete)
        parts = ("actor", "critic")[: 1 + any(name.startswith("critic.") for name in own)]
        self.trunks = nn.ModuleList(PlainTrunk(own, part) for part in parts)
        self.action_head, self.value_head = _linear(own, "action_head"), _linear(own, "value_head")

    def start(self, rows: int) -> list[Any]:
        return [trunk.start(rows) for trunk in self.trunks if isinstance(trunk, PlainTrunk)]

    def forward(self, obs: Tensor, states: list[Any]) -> tuple[Tensor, Tensor, list[Any]]:
        """Head and value of one step (rows, O), and the states after it."""
        outputs, after = zip(*(trunk(obs, s) for trunk, s in zip(self.trunks, states, strict=True)), strict=True)
        return self.action_head(outputs[0]), self.value_head(outputs[-1]).squeeze(-1), list(after)

    def policy(self, head: Tensor) -> Normal | Categorical:
        return Categorical(logits=head) if self.discrete else Normal(head, self.log_std.exp())

    def log_prob(self, head: Tensor, actions: Tensor) -> Tensor:
        policy: Any = self.policy(head)
        told: Tensor = policy.log_prob(actions[..., 0]) if self.discrete else policy.log_prob(actions).sum(-1)
        return told

    def entropy(self, head: Tensor) -> Tensor:
        policy: Any = self.policy(head)
        told: Tensor = policy.entropy() if self.discrete else policy.entropy().sum(-1)
        return told


def _linear(own: dict[str, Tensor], name: str) -> nn.Linear:
    weight, bias = own[f"{name}.weight"], own[f"{name}.bias"]
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)
    return linear


class PlainPPO:
    """Trains one network on what was recorded.

    Args:
        network: Of the policy.
        hyper: learning_rate, clip, entropy, gamma, target_kl, max_grad_norm, num_epochs, critic, bounds.
        gae_lambda: Of the targets.
        value_clip: Of the critic's loss.
        rates: Bounds of the adaptive learning rate.
    """

    def __init__(
        self,
        network: PlainNetwork,
        hyper: dict[str, float],
        gae_lambda: float,
        value_clip: float | None,
        rates: tuple[float, float],
    ) -> None:
        self.network, self.hyper, self.gae_lambda, self.value_clip = network, hyper, gae_lambda, value_clip
        self.rates = rates
        learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.adam = torch.optim.Adam(learnt, lr=hyper["learning_rate"])
        self.seen: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.states: list[Any] | None = None

    def learn(self, met: Recorded) -> Tensor:
        """One iteration; returns the log-probabilities (T, n) of the actions before it."""
        steps, envs, gamma = *met.rewards.shape, self.hyper["gamma"]
        obs, final_obs = self._normal(met.obs), self._normal(met.final_obs)
        begin = self.states = self.states or self.network.start(envs)
        done = met.terminated | met.truncated
        with torch.no_grad():
            values, log_probs, final_values = [], [], []
            for t in range(steps):
                head, value, after = self.network(obs[t], self.states)
                values.append(value)
                log_probs.append(self.network.log_prob(head, met.actions[t]))
                final_values.append(self.network(final_obs[t], after)[1])
                self.states = _reset(after, done[t])
            values.append(self.network(obs[steps], self.states)[1])
        mean, std = self._scale()
        real = torch.stack(values) * std + mean
        final = torch.stack(final_values) * std + mean
        advantages = torch.zeros(steps, envs)
        for env in range(envs):
            carried = 0.0
            for t in reversed(range(steps)):
                following = float(final[t, env] if met.truncated[t, env] else real[t + 1, env])
                following = 0.0 if met.terminated[t, env] else following
                delta = float(met.rewards[t, env]) + gamma * following - float(real[t, env])
                carried = delta + (0.0 if done[t, env] else gamma * self.gae_lambda * carried)
                advantages[t, env] = carried
        targets = advantages + real[:-1]
        self.seen.append(met.obs[:-1].double())
        self._rescale(targets, mean, std)
        mean, std = self._scale()
        normal = (advantages - advantages.mean()) / (advantages.var(correction=0) + 1e-8).sqrt()
        old, wanted = (real[:-1] - mean) / std, (targets - mean) / std
        resets = torch.cat([torch.zeros(1, envs, dtype=torch.bool), done[:-1]])
        for minibatches in met.passes:
            kl = []
            for at in minibatches:
                head, value = self._evaluate(obs, begin, resets, *at)
                log_ratio = self.network.log_prob(head, met.actions[at]) - torch.stack(log_probs)[at]
                loss = self._loss(head, value, log_ratio, normal[at], old[at], wanted[at])
                self.adam.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.adam.param_groups[0]["params"], self.hyper["max_grad_norm"])
                self.adam.step()
                self.network.log_std.data.clamp_(-5.0, 2.0)
                kl.append((log_ratio.double().expm1() - log_ratio).mean().item())
            self._adapt(sum(kl) / len(kl))
        return torch.stack(log_probs)

    def _evaluate(
        self, obs: Tensor, begin: list[Any], resets: Tensor, step: Tensor, env: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Head and value of samples; where there is a state they are whole sequences, (T, B) steps and environments."""
        if step.dim() == 1:
            head, value, _ = self.network(obs[step, env], begin)
            return head, value
        states, heads, values = [None if s is None else s[:, env[0]] for s in begin], [], []
        for t in range(len(step)):
            states = _reset(states, resets[t, env[0]])
            head, value, states = self.network(obs[t, env[0]], states)
            heads.append(head)
            values.append(value)
        return torch.stack(heads), torch.stack(values)

    def _loss(
        self, head: Tensor, value: Tensor, log_ratio: Tensor, advantage: Tensor, old: Tensor, wanted: Tensor
    ) -> Tensor:
        hyper, ratio = self.hyper, log_ratio.exp()
        low, high = 1 - hyper["clip"], 1 + hyper["clip"]
        actor = -torch.min(ratio * advantage, ratio.clamp(low, high) * advantage)
        critic = (value - wanted) ** 2
        if self.value_clip is not None:
            near = old + (value - old).clamp(-self.value_clip, self.value_clip)
            critic = torch.max(critic, (near - wanted) ** 2)
        bound = torch.zeros(()) if self.network.discrete else (head.abs() - 1.1).clamp(min=0).square().sum(-1).mean()
        entropy = self.network.entropy(head).mean()
        total: Tensor = actor.mean() + 0.5 * hyper["critic"] * critic.mean() + hyper["bounds"] * bound
        return total - hyper["entropy"] * entropy

    def _adapt(self, kl: float) -> None:
        target, group = self.hyper["target_kl"], self.adam.param_groups[0]
        if target != target:  # NaN: constant
            return
        if kl > 2 * target:
            group["lr"] /= 1.5
        elif kl < target / 2:
            group["lr"] *= 1.5
        group["lr"] = min(max(group["lr"], self.rates[0]), self.rates[1])

    def _normal(self, obs: Tensor) -> Tensor:
        """By all observations of the iterations before."""
        if not self.seen:
            return (obs / math.sqrt(1 + 1e-5)).clamp(-5, 5)
        rows = torch.cat([each.flatten(0, 1) for each in self.seen])
        normal: Tensor = (obs - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()
        return normal.float().clamp(-5, 5)

    def _scale(self) -> tuple[float, float]:
        """Mean and standard deviation of all targets so far."""
        if not self.targets:
            return 0.0, (1 + 1e-5) ** 0.5
        rows = torch.cat([each.flatten() for each in self.targets]).double()
        return rows.mean().item(), (rows.var(correction=0) + 1e-5).sqrt().item()

    def _rescale(self, targets: Tensor, mean: float, std: float) -> None:
        """Take targets in, so that what the critic says in units of the reward stays."""
        self.targets.append(targets)
        new_mean, new_std = self._scale()
        head = self.network.value_head
        head.weight.data *= std / new_std
        head.bias.data = (head.bias.data * std + mean - new_mean) / new_std


def _reset(states: list[Any], done: Tensor) -> list[Any]:
    return [None if state is None else state.masked_fill(done[:, None], 0.0) for state in states]
