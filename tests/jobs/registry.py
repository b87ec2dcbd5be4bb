"""A registry with a network for digits in it, which was not trained."""

from pathlib import Path

import torch

import dsnet
from dsnet import Metadata
from dsnet.routing.budget import calibrate_prices
from pipeline.store import registry, tracking
from tests.embedded_store import embedded_store


def digits_registry(home: Path) -> None:
    """In the DSNET_HOME `home`: digits version 1, which is the champion, and digits-supernet."""
    with embedded_store(home):
        tracking.configure()
        torch.manual_seed(0)
        metadata = Metadata(resolution=8, classes=tuple("0123456789"))
        model = dsnet.create_model("ds_mbnet_digits", metadata=metadata).eval()
        dsnet.save(model, home / "supernet")
        with torch.no_grad():
            model.slimming_parameters()[0].normal_()
        prices = calibrate_prices(model, [torch.randn(16, 3, 8, 8)])
        model.metadata = Metadata(resolution=8, classes=metadata.classes, prices=prices)
        dsnet.save(model, home / "model")
        for name, stage, source, aliases in (
            ("digits-supernet", "supernet", "supernet", ()),
            ("digits", "gate", "model", ("champion", "target-50pct")),
        ):
            tags = {"fingerprint": "f", "parent": "", "dataset_digest": "d", "code_version": "c"}
            registry.register(
                name,
                home / source,
                stage=stage,
                run_id=None,
                tags=tags,
                metrics={"top1": 0.975, "average_madds": 150000.0},
                aliases=aliases,
            )
