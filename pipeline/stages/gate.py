"""Stage II on Ray Train: slimming heads alone learn which width each image needs."""

from dataclasses import replace
from typing import Any

import torch

import dsnet
from dsnet import restricted
from dsnet.routing.budget import calibrate_prices, gate_logits, price_for, prices_from_logits
from dsnet.training import (
    GateLoss,
    LossMeter,
    average_gradients,
    check_finite,
    freeze_trunk,
    gate_step,
)
from pipeline.data.loader import Loader
from pipeline.store.fingerprint import PICTURES, Spec
from pipeline.training.evaluation import by_width, evaluate
from pipeline.training.optimization import learning_rate, make_optimizer, set_learning_rate
from pipeline.training.state import Training
from pipeline.training.worker import Worker

SPEC = Spec(
    "gate",
    revision=1,
    fields=(*PICTURES, "model.routes", "cluster.workers", "gate"),
    unread=("gate.supernet",),
)


def loop(worker: Worker) -> None:
    """Train the slimming heads, then calibrate the price that turns a budget into a choice.

    settings: "train", the beton; "model", the calibrated supernet's model directory.
    """
    section = worker.config.gate
    state = prepared(worker)
    loader = worker.train_loader(section.batch_size)
    holdout = worker.holdout_loader(section.batch_size)
    worker.resume(state.restore)
    loss = make_loss(worker, state.model)
    while state.epoch < section.epochs:
        means = train_epoch(worker, state, loader, loss)
        metrics: dict[str, Any] = {"epoch": state.epoch, "train": means}
        if state.epoch == section.epochs:
            set_prices(worker, state.model, holdout)
        counts = evaluate(state.model, worker.batches(holdout.epoch(0), state.model.metadata))
        metrics["holdout"] = by_width(counts.rows(state.model), state.model.task.headline)
        metrics["average_madds"] = counts.average_madds(state.model)
        metrics["evaluation"] = counts.to_dict()
        worker.report(metrics, state.save, final=state.epoch == section.epochs)


def prepared(worker: Worker) -> Training:
    """The supernet with its trunk frozen, and the optimizer of its slimming heads.

    The heads have a logit for each route that the config allows.
    """
    supernet = dsnet.load(worker.settings["model"], worker.device)
    model = restricted(supernet, worker.config.model.routes)
    model = model.to(worker.device).to(memory_format=torch.channels_last)
    freeze_trunk(model)
    return Training(model, make_optimizer(model.slimming_parameters(), worker.config.gate))


def train_epoch(
    worker: Worker, state: Training, loader: Loader, loss: GateLoss
) -> dict[str, float]:
    """The next epoch's steps; the mean of what `gate_step` returned for each."""
    section = worker.config.gate
    steps = section.epochs * len(loader)
    meter = LossMeter()
    # Every worker samples its own routes.
    generator = torch.Generator(worker.device).manual_seed(
        (worker.config.seed * 1_000_003 + state.epoch) * worker.world_size + worker.rank
    )
    for index, (images, labels) in enumerate(
        worker.batches(loader.epoch(state.epoch), state.model.metadata)
    ):
        now = state.epoch * len(loader) + index
        set_learning_rate(state.optimizer, learning_rate(now, steps, section.lr))
        state.optimizer.zero_grad()
        meter.add(now + 1, gate_step(state.model, images, labels, loss, generator))
        average_gradients(state.model.slimming_parameters())
        state.optimizer.step()
        worker.progress(now + 1, steps)
    state.epoch += 1
    meter.check(lambda name, _: f"the slimming heads ({name})")
    check_finite(dict(state.model.named_parameters()), f"after step {now + 1}")
    return meter.means()


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
def set_prices(worker: Worker, model: dsnet.DSNet, holdout: Loader) -> None:
    """Store with the model what a price on multiply-adds does to held-out images.

    Where there is a target, the price that meets it is what the model runs at by default.
    """
    batches = [images for images, _ in worker.batches(holdout.epoch(0), model.metadata)]
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
