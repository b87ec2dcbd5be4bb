"""Stage II on Ray Train: slimming heads alone learn which width each image needs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import dsnet
from dsnet import restricted
from dsnet.routing.budget import calibrate_prices, gate_logits, price_for, prices_from_logits
from dsnet.training import GateLoss, GradientReducer, check_finite, freeze_trunk, gate_step
from pipeline.data.manifest import Beton
from pipeline.stages.stage import OnModel, Stage
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.epochs import Algorithm, Epoch, Schedule, train_epochs
from pipeline.training.evaluation import by_width, evaluate
from pipeline.training.optimization import make_optimizer
from pipeline.training.state import Training
from pipeline.training.worker import Worker

if TYPE_CHECKING:  # it brings FFCV, and drivers import this module
    from pipeline.data.loading.loader import Loader

SPEC = Spec(
    "gate",
    revision=1,
    fields=(*PICTURES, "data.sampling", "model.routes", "cluster.workers", "gate"),
    unread=("gate.supernet", "gate.checkpoint_steps", "gate.checkpoint_minutes"),
)


def loop(worker: Worker, inputs: OnModel) -> None:
    """Train the slimming heads, then calibrate the price that turns a budget into a choice."""
    state = prepared(worker, inputs.model)
    holdout = worker.holdout_loader(inputs.train, worker.config.gate.batch_size)
    for epoch in train_heads(worker, state, inputs.train):
        metrics: dict[str, Any] = {"epoch": state.epoch, "lr": epoch.lr, "train": epoch.losses}
        metrics |= {"skipped": epoch.skipped, "throughput": epoch.throughput}
        if epoch.last:
            set_prices(worker, state.model, holdout)
        counts = evaluate(state.model, worker.batches(holdout.epoch(0), state.model))
        metrics["holdout"] = by_width(counts.rows(state.model))
        metrics["average_madds"] = counts.average_madds(state.model)
        metrics["evaluation"] = counts.to_dict()
        worker.report(metrics, state.snapshot(worker.gather_bytes), final=epoch.last)


STAGE = Stage(SPEC, OnModel, loop, gated=True)


def prepared(worker: Worker, supernet: Path) -> Training:
    """The supernet with its trunk frozen, and the optimizer of its slimming heads.

    The heads have a logit for each route that the config allows.
    """
    model = restricted(dsnet.load(supernet, worker.device), worker.config.model.routes)
    model = model.to(worker.device).to(memory_format=torch.channels_last)
    freeze_trunk(model)
    optimizer = make_optimizer(model.slimming_parameters(), worker.config.gate)
    return Training(model, optimizer, rank=worker.rank, world_size=worker.world_size)


def train_heads(worker: Worker, state: Training, train: Beton) -> Iterator[Epoch]:
    """The epochs of stage II, each checked to have left finite losses and heads."""
    section = worker.config.gate
    schedule = Schedule(
        section.epochs,
        section.lr,
        checkpoint_steps=section.checkpoint_steps,
        checkpoint_minutes=section.checkpoint_minutes,
    )
    loader = worker.train_loader(train, section.batch_size)
    algorithm = StraightThrough(worker, state.model)
    state.generator = algorithm.generator
    yield from train_epochs(worker, state, loader, schedule, algorithm)


class StraightThrough(Algorithm):
    """Stage II: the slimming heads learn, through the straight-through Gumbel-softmax."""

    def __init__(self, worker: Worker, model: dsnet.DSNet) -> None:
        self.worker, self.model = worker, model
        self.loss = make_loss(worker, model)
        self.generator = torch.Generator(worker.device)  # every worker samples its own routes

    def step(
        self, images: Tensor, labels: Tensor, number: int, reducer: GradientReducer | None
    ) -> dict[str, Tensor]:
        return gate_step(self.model, images, labels, self.loss, self.generator)

    def seed(self, epoch: int) -> None:
        self.generator.manual_seed(self.worker.epoch_seed(epoch))

    def check(self, images: Tensor, steps: int) -> None:
        check_finite(dict(self.model.named_parameters()), f"after step {steps}")

    def describe(self, loss: str, step: int) -> str:
        return f"the slimming heads ({loss})"


def make_loss(worker: Worker, model: dsnet.DSNet) -> GateLoss:
    """The three-term loss with the config's weights and target."""
    section = worker.config.gate
    madds = [model.madds(route) for route in model.space.routes]
    return GateLoss(
        classification=section.lambda_classification,
        complexity=section.lambda_complexity,
        sgs_weight=section.lambda_sgs,
        sgs=section.sgs,
        target=None if section.target is None else section.target.madds(madds),
        temperature=section.temperature,
    )


@torch.inference_mode()
def set_prices(worker: Worker, model: dsnet.DSNet, holdout: "Loader") -> None:
    """Store with the model what a price on multiply-adds does to held-out images.

    Where there is a target, the price that meets it is what the model runs at by default.
    """
    batches = [images for images, _ in worker.batches(holdout.epoch(0), model)]
    if len(model.gates) == 1:
        logits = torch.cat([gate_logits(model, images) for images in batches])
        prices = prices_from_logits(model, worker.gather(logits))
    else:
        # A later gate's logits depend on earlier choices; rank 0's share, which is saved, stands
        # for all.
        prices = calibrate_prices(model, batches)
    model.metadata = replace(model.metadata, prices=prices)
    if target := worker.config.gate.target:
        model.metadata = replace(model.metadata, price=price_for(model, target))
