"""Trains a CNN on handwritten digits through torch.compile(backend="rust_backend").

    python examples/mnist_rustorch_demo.py           # also --device cpu, --epochs

Shows a progress bar, the accuracy on the held-out digits, and saves a picture of predictions.
Exits with 1 if the accuracy stays below 97 %. Where the data come from: see mnist_data.py.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from mnist_data import DataError, Digits, load
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

GOAL = 0.97
PICTURES = 20


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(images).relu()
        hidden = nn.functional.max_pool2d(self.conv2(hidden).relu(), 2)
        hidden = self.fc1(hidden.flatten(1)).relu()
        return self.fc2(hidden)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Moved by up to two pixels each way, so that the net learns shapes rather than places."""
    down, right = torch.randint(-2, 3, (2,)).tolist()
    return images.roll((down, right), (2, 3))


def train(model: nn.Module, digits: Digits, options: argparse.Namespace) -> None:
    """One compiled step a batch; the last, smaller batch of an epoch is left out."""

    def loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(model(images), labels)

    compiled = torch.compile(loss_of, backend=options.backend)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.5e-3, fused=True)
    loader = DataLoader(
        TensorDataset(digits.train_images, digits.train_labels),
        batch_size=options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        generator=torch.Generator().manual_seed(options.seed),
    )
    steps = options.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    # In a log, where the bar cannot be redrawn, a line now and then is enough.
    interval = 0.1 if sys.stdout.isatty() else 5.0
    model.train()
    with tqdm(total=steps, unit="step", file=sys.stdout, mininterval=interval) as bar:
        for epoch in range(options.epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                loss = compiled(shifted(images).to(options.device), labels.to(options.device))
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.set_description(f"epoch {epoch + 1}/{options.epochs}", refresh=False)
                bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
                bar.update()


@torch.no_grad()
def predict(model: nn.Module, images: torch.Tensor, device: str) -> torch.Tensor:
    model.eval()
    return torch.cat([model(part.to(device)).argmax(1).cpu() for part in images.split(256)])


def save_picture(path: Path, images: torch.Tensor, predicted: torch.Tensor, labels: torch.Tensor) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(PICTURES // 5, 5, figsize=(7, 6), layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, guess, label in zip(axes.flat, images, predicted, labels, strict=False):
        axis.imshow(image[0], cmap="gray_r")
        right = guess == label
        axis.set_title(f"{guess}" if right else f"{guess}, is {label}", color="black" if right else "red")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("rustorch", "cpu"), default="rustorch", help="where the model lives")
    parser.add_argument("--backend", default="rust_backend", help="torch.compile's backend, to compare with others")
    parser.add_argument("--epochs", type=int, help="default: 10 for scikit-learn's digits, 1 for MNIST")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0, help="processes that load the data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output" / "mnist_predictions.png")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.device == "rustorch" and not hasattr(torch, "rustorch"):
        print("The rustorch device is not loaded: `python -m rustorch_device.backend_check` says why.", file=sys.stderr)
        return 1
    torch.manual_seed(options.seed)
    try:
        digits = load()
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    if options.epochs is None:
        options.epochs = 1 if digits.source == "MNIST" else 10
    if options.batch > len(digits.train_images):
        print(f"--batch {options.batch} is more than the {len(digits.train_images)} images.", file=sys.stderr)
        return 1
    print(f"{digits.source}: {len(digits.train_images)} to train on, {len(digits.test_images)} held out")
    print(f'training on {options.device} through torch.compile(backend="{options.backend}")')

    model = Net().to(options.device)
    started = time.perf_counter()
    train(model, digits, options)
    seconds = time.perf_counter() - started
    predicted = predict(model, digits.test_images, options.device)
    accuracy = (predicted == digits.test_labels).float().mean().item()
    print(f"trained in {seconds:.1f} s; accuracy on the held-out digits: {accuracy:.2%}")

    save_picture(options.output, digits.test_images, predicted, digits.test_labels)
    print(f"sample predictions: {options.output}")
    if accuracy < GOAL:
        print(f"the accuracy is below {GOAL:.0%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
