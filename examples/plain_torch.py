"""Train a Dynamic Slimmable Network and its gate in plain PyTorch: no Ray, no FFCV, no MLflow.

    python examples/plain_torch.py [EPOCHS]

Handwritten digits of 8x8 pixels (scikit-learn's), half a minute on one CPU core.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import Tensor

import dsnet
from dsnet import DSNet, Metadata
from dsnet.routing import build_rows, join
from dsnet.training import (
    bootstrap_step,
    make_teacher,
    random_widths,
    recalibrate,
    update_teacher,
    warmed_decay,
)
from dsnet.training.table_gate import train_gate

BATCH = 32


def digits() -> tuple[Tensor, Tensor]:
    """Normalised images (1797, 3, 8, 8) and labels (1797,), in random order."""
    scans, labels = load_digits(return_X_y=True)
    grey = torch.tensor(scans * (255 / 16)).to(torch.uint8).reshape(-1, 8, 8, 1)
    images = dsnet.normalize(grey.expand(-1, -1, -1, 3), (0.3,) * 3, (0.38,) * 3)
    order = torch.randperm(len(labels))
    return images[order], torch.tensor(labels)[order]


def train_supernet(images: Tensor, labels: Tensor, epochs: int) -> DSNet:
    """Stage I: every width at once. What is kept is the moving average of the weights."""
    metadata = Metadata(resolution=8, mean=(0.3,) * 3, std=(0.38,) * 3)
    model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).train()
    teacher = make_teacher(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=True)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        optimizer.zero_grad()
        widths = random_widths(model, 2, generator)
        bootstrap_step(model, teacher, images[rows], labels[rows], widths)
        optimizer.step()
        schedule.step()
        update_teacher(teacher, model, warmed_decay(0.95, step))
    recalibrate(teacher, images.split(256))
    return teacher


def main(epochs: int) -> None:
    """Train, route and print what each width and the dynamic network reach."""
    torch.manual_seed(0)
    images, labels = digits()
    train, held_out, test = slice(0, 1200), slice(1200, 1500), slice(1500, None)
    model = train_supernet(images[train], labels[train], epochs)

    # Stage II on a routing table: what every width makes of every image, written down once.
    tables = [
        join([build_rows(model, *batch) for batch in zip(x.split(256), y.split(256), strict=True)])
        for x, y in ((images[part], labels[part]) for part in (train, held_out))
    ]
    widest = model.madds(model.space.routes[-1])
    gate = train_gate(*tables, targets=[0.5 * widest])
    model.gates[0].slimming = gate.heads[0]

    with torch.inference_mode():
        for index in range(len(model.space)):
            right = (model(images[test], width=index).argmax(1) == labels[test]).float().mean()
            print(f"width {index}: {right:.1%} at {model.madds(index):,} multiply-adds")
        logits, widths = model.dynamic(images[test], price=gate.prices[0])
    right = (logits.argmax(1) == labels[test]).float().mean()
    average = sum(model.madds(width) for width in widths.tolist()) / len(widths)
    print(f"dynamic: {right:.1%} at {average:,.0f} multiply-adds on average")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
