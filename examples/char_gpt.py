"""Trains a small GPT on Python's own documentation through torch.compile(backend="rust_backend").

    python examples/char_gpt.py            # 400 steps; more with --steps

The text is what `help()` shows, which comes with every Python (pydoc_data). Shows a progress bar, saves
the loss curve as a picture, and prints text that the model writes. Exits with 1 if it does not learn.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

CONTEXT = 64
#: A loss below this, in nats a character, is beyond what the frequencies of characters alone give.
GOAL = 2.5


def python_documentation() -> str:
    """Some 460,000 characters of English and code."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    return "".join(character for character in text if character.isascii())


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.before_maps = nn.LayerNorm(width)
        self.maps = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, length, width = hidden.shape
        split = self.query_key_value(self.before_attention(hidden)).view(batch, length, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        seen = seen.transpose(1, 2).reshape(batch, length, width)
        hidden = hidden + self.dropout(self.mixed(seen))
        return hidden + self.dropout(self.maps(self.before_maps(hidden)))


class CharGPT(nn.Module):
    """Gives the logits of each next character."""

    def __init__(self, characters: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, width))
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)))
        self.last_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.characters(tokens) + self.places[: tokens.shape[1]]
        return self.head(self.last_norm(self.blocks(hidden)))


def train(model: nn.Module, data: torch.Tensor, options: argparse.Namespace) -> list[float]:
    def loss_of(tokens: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(tokens).flatten(0, 1), following.flatten())

    compiled = torch.compile(loss_of, backend=options.backend)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    warm = max(1, options.steps // 20)

    def rate(step: int) -> float:
        """Rises, then falls along a cosine."""
        return min((step + 1) / warm, 0.55 + 0.45 * math.cos(math.pi * step / options.steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    losses = []
    model.train()
    # In a log, where the bar cannot be redrawn, a line now and then is enough.
    with tqdm(
        total=options.steps, unit="step", file=sys.stdout, mininterval=0.1 if sys.stdout.isatty() else 5.0
    ) as bar:
        for _ in range(options.steps):
            starts = torch.randint(0, len(data) - CONTEXT - 1, (options.batch, 1))
            windows = data[starts + torch.arange(CONTEXT + 1)]
            optimizer.zero_grad()
            loss = compiled(windows[:, :-1].to(options.device), windows[:, 1:].to(options.device))
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
            bar.update()
    return losses


@torch.no_grad()
def sample(model: nn.Module, prompt: torch.Tensor, count: int, device: str) -> torch.Tensor:
    """Goes on from the prompt, character by character."""
    model.eval()
    tokens = prompt
    for _ in range(count):
        logits = model(tokens[None, -CONTEXT:].to(device))[0, -1].cpu()
        # The draw is on the CPU: its generator is the one that is seeded in every program.
        tokens = torch.cat((tokens, torch.multinomial(torch.softmax(logits / 0.8, 0), 1)))
    return tokens


def save_curve(path: Path, losses: list[float], characters: int) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axis.plot(losses, linewidth=1)
    axis.axhline(math.log(characters), color="gray", linestyle="--", linewidth=1, label="a guess")
    axis.set(xlabel="step", ylabel="loss, nats a character", title="CharGPT on Python's documentation", ylim=(0, None))
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("rustorch", "cpu"), default="rustorch", help="where the model lives")
    parser.add_argument("--backend", default="rust_backend", help="torch.compile's backend, to compare with others")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--sample", type=int, default=300, metavar="CHARACTERS", help="how much text to write")
    parser.add_argument("--goal", type=float, default=GOAL, help="the loss that must be reached")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output" / "char_gpt_loss.png")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.device == "rustorch" and not hasattr(torch, "rustorch"):
        print("The rustorch device is not loaded: `python -m rustorch_device.backend_check` says why.", file=sys.stderr)
        return 1
    torch.manual_seed(options.seed)
    text = python_documentation()
    alphabet = sorted(set(text))
    number = {character: at for at, character in enumerate(alphabet)}
    data = torch.tensor([number[character] for character in text])
    model = CharGPT(len(alphabet), options.width, options.layers, options.heads, options.dropout).to(options.device)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(text):,} characters of {len(alphabet)} kinds; {count:,} parameters on {options.device}")

    started = time.perf_counter()
    losses = train(model, data, options)
    seconds = time.perf_counter() - started
    last = losses[-max(1, len(losses) // 10) :]
    reached = sum(last) / len(last)
    print(f"trained in {seconds:.1f} s; loss {losses[0]:.3f} at first, {reached:.3f} at last")
    save_curve(options.output, losses, len(alphabet))
    print(f"loss curve: {options.output}")

    prompt = "The for statement"
    tokens = sample(model, torch.tensor([number[character] for character in prompt]), options.sample, options.device)
    print("the model writes:\n")
    print("".join(alphabet[token] for token in tokens.tolist()))
    if not reached < options.goal:
        print(f"\nthe loss stays above {options.goal}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
