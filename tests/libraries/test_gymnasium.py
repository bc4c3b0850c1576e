"""Reinforcement learning: proximal policy optimization over environments of gymnasium (Schulman et al., 2017)."""

import pytest
import torch
from torch import nn

gymnasium = pytest.importorskip("gymnasium", reason="gymnasium is not installed: `make libraries` installs it")

DEVICE = "rustorch"
ENVIRONMENTS, STEPS, EPOCHS, DISCOUNT, TRACE, CLIP = 4, 64, 4, 0.99, 0.95, 0.2


class Actor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
        self.value = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, states):
        return self.policy(states), self.value(states).squeeze(-1)


def advantages_of(rewards, values, ended, last):
    """Generalized advantages (Schulman et al., 2015), and the returns that they lead to."""
    found, running = torch.zeros_like(rewards), torch.zeros_like(last)
    for step in reversed(range(STEPS)):
        following = last if step == STEPS - 1 else values[step + 1]
        goes_on = 1 - ended[step]
        error = rewards[step] + DISCOUNT * following * goes_on - values[step]
        running = error + DISCOUNT * TRACE * goes_on * running
        found[step] = running
    return found, found + values


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_proximal_policy_optimization(compiled):
    torch._dynamo.reset()
    torch.manual_seed(0)
    actor = Actor().to(DEVICE)
    run = torch.compile(actor, backend="rust_backend") if compiled else actor
    optimizer = torch.optim.Adam(actor.parameters(), lr=5e-3)
    environments = gymnasium.make_vec("CartPole-v1", num_envs=ENVIRONMENTS)
    states, _ = environments.reset(seed=0)
    lengths, finished, alive = [], [], torch.zeros(ENVIRONMENTS)
    for _ in range(12):
        kept = []
        for _ in range(STEPS):
            seen = torch.as_tensor(states, device=DEVICE)
            with torch.no_grad():
                logits, values = run(seen)
            chosen = torch.distributions.Categorical(logits=logits)
            actions = chosen.sample()
            states, rewards, over, cut, _ = environments.step(actions.cpu().numpy())
            ended = torch.as_tensor(over | cut)
            alive += 1
            finished += alive[ended].tolist()
            alive[ended] = 0
            numbers = (torch.as_tensor(part, dtype=torch.float32, device=DEVICE) for part in (rewards, ended))
            kept.append((seen, actions, chosen.log_prob(actions), values, *numbers))
        seen, actions, before, values, rewards, ended = (torch.stack(part) for part in zip(*kept, strict=True))
        with torch.no_grad():
            _, last = run(torch.as_tensor(states, device=DEVICE))
            advantages, returns = advantages_of(rewards, values, ended, last)
        advantages = ((advantages - advantages.mean()) / (advantages.std() + 1e-8)).flatten()
        seen, actions, before, returns = seen.flatten(0, 1), actions.flatten(), before.flatten(), returns.flatten()
        for _ in range(EPOCHS):
            for part in torch.randperm(seen.shape[0], device=DEVICE).chunk(2):
                logits, values = run(seen[part])
                now = torch.distributions.Categorical(logits=logits)
                ratio = (now.log_prob(actions[part]) - before[part]).exp()
                gain = torch.minimum(ratio * advantages[part], ratio.clamp(1 - CLIP, 1 + CLIP) * advantages[part])
                error = nn.functional.mse_loss(values, returns[part])
                loss = -gain.mean() + 0.5 * error - 0.01 * now.entropy().mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(actor.parameters(), 0.5)
                optimizer.step()
        lengths.append(sum(finished[-20:]) / max(1, len(finished[-20:])))
    environments.close()
    assert {parameter.device.type for parameter in actor.parameters()} == {DEVICE}
    assert lengths[-1] > 1.5 * lengths[0], lengths
