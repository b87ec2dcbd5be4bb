"""The model card of a version: README.md in its folder, and its description in MLflow."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dsnet import DSNet
from dsnet.io.version_files import PICTURE
from dsnet.routing.tuned import TunedGate
from pipeline.store.version import GIVEN

FACTS = "facts"
"""Tag of a version: what its card needs to know of the network, as JSON."""
REACHED = "reached"
"""Tag of a version: `Reached`, as JSON."""
_LONGEST = 5000


@dataclass(frozen=True)
class Reached:
    """What a model reaches by its headline on the images that the tag `evaluated_on` names."""

    images: int
    """How many."""
    widths: dict[int, float]
    """The mean, by index of a sub-network."""
    budgets: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By target as asked for: multiply-adds per image and the mean. Empty without a sweep."""

    def json(self) -> str:
        """For `REACHED`."""
        return json.dumps(asdict(self))


def facts_of(model: DSNet, gates: list[TunedGate]) -> str:
    """What a card says of the network itself, as JSON."""
    return json.dumps(
        {
            "architecture": model.architecture.name,
            "resolution": model.metadata.resolution,
            "classes": len(model.metadata.classes),
            "madds": [model.madds(width) for width in model.space],
            "routes": list(model.space.routes),
            "trained": model.gates_trained,
            "looks_again": model.looks is not None,
            "targets": [gate.target for gate in gates],
        }
    )


def card(name: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Markdown: what it is, data, accuracy and cost, limits, how to load it, licence, lineage.

    From a version's tags alone, so that it can be rewritten when more is measured.
    """
    facts = json.loads(tags[FACTS])
    return (
        "\n\n".join(
            [
                f"# {name}",
                _what(facts, tags),
                "## Accuracy and cost\n\n" + _table(facts, tags, metrics),
                "## How to use it\n\n" + _USE.replace("NAME", name),
                "## Limits\n\n" + _limits(facts),
                "## Where it comes from\n\n" + _lineage(tags),
            ]
        )
        + "\n"
    )


def description(text: str) -> str:
    """A card as the description of a version in MLflow, whose databases take 5,000 characters.

    Without its picture, which MLflow's page would look for in vain.
    """
    text = text.replace(_SHOWN, "")
    more = "\n\n… README.md among the files has the rest."
    return text if len(text) <= _LONGEST else text[: _LONGEST - len(more)] + more


_SHOWN = f"\n\n![Squares are single widths, dots are what gates choose]({PICTURE})"


def _what(facts: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    kind = tags.get("task", "classification")
    of = f" of {facts['classes']} classes" if facts["classes"] else ""
    gated = (
        "A gate looks at each image and picks how wide the rest of the network is for it; a budget "
        "says how many multiply-adds to spend on average."
        if facts["trained"]
        else "Its gates are not trained (it is a supernet): every image runs at the widest."
    )
    if facts["looks_again"]:
        gated += (
            " It may look at an image again: what a slim tail concludes says whether a wider one "
            "runs on the same features too, and multiply-adds count all that ran."
        )
    return (
        f"A Dynamic Slimmable Network (arXiv 2103.13258, {facts['architecture']}) for {kind}{of}, "
        f"images of {facts['resolution']} x {facts['resolution']} pixels. {gated}"
    )


def _table(facts: Mapping[str, Any], tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    headline = tags.get("headline", "top1")
    widest = facts["madds"][facts["routes"][-1]]
    # Sums over the test images, once they are counted: see `pipeline.training.evaluation`.
    counted = json.loads(tags["evaluation"]) if "evaluation" in tags else None
    registered = json.loads(tags[REACHED]) if REACHED in tags else {"widths": {}, "budgets": {}}
    widths = (
        {str(i): n / counted["images"] for i, n in enumerate(counted["static"]["values"][headline])}
        if counted
        else registered["widths"]
    )
    rows = [
        (f"width {i}", facts["madds"][i], f"{widths[str(i)]:.4f}" if str(i) in widths else "")
        for i in facts["routes"]
    ]
    rows += [
        (f"budget {target}", cost, f"{value:.4f}")
        for target, (cost, value) in registered["budgets"].items()
    ]
    by_itself = "as its gate chooses" if facts["trained"] else "as it runs"
    rows.append((f"**{by_itself}**", metrics["average_madds"], f"**{metrics[headline]:.4f}**"))
    lines = [
        f"| network | multiply-adds | of the widest | {headline} |",
        "| --- | --: | --: | --: |",
    ]
    lines += [f"| {name} | {cost:,.0f} | {cost / widest:.1%} | {v} |" for name, cost, v in rows]
    images = (counted or registered).get("images")
    kind = tags.get("evaluated_on", "held-out").replace("holdout", "held-out training")
    count = f"{images:,} " if images else ""
    text = "\n".join(lines) + f"\n\nMeasured on {count}{'test' if counted else kind} images."
    if facts["targets"]:
        targets = ", ".join(f"{each:,.0f} ({each / widest:.0%})" for each in facts["targets"])
        text += f" It has a separate gate for each budget of: {targets} multiply-adds."
    return text + (_SHOWN if REACHED in tags else "")


_USE = """\
With MLflow, where the packages of `requirements.txt` are installed (torch does in place of
onnxruntime):

```python
import mlflow
model = mlflow.pyfunc.load_model("models:/NAME@champion")
answers = model.predict([open("photo.jpg", "rb").read()], params={"budget": 0.5, "top_k": 3})
```

Images: encoded bytes, base64 text, paths, arrays uint8 (N, H, W, 3), or a DataFrame with a column
`image` of any of the first three. `budget`: a fraction of the widest (0.5) or a count of
multiply-adds (200e6). Answers: label, class, confidence, width, madds.

With ONNX Runtime alone: `mlflow.onnx.load_model`, or `model.onnx` as it is; its metadata property
`dsnet.description` has classes, prices of budgets and costs.

With this project: `dsnet pull models:/NAME@champion DIR`, then `dsnet.load("DIR", budget=0.5)`."""


def _limits(facts: Mapping[str, Any]) -> str:
    text = (
        "Accuracy holds for images like those it was measured on. Confidences are softmax "
        "probabilities and not calibrated."
    )
    if facts["trained"]:
        text += (
            " A budget is an average over images like the held-out ones: harder images cost more."
        )
    return text


def _lineage(tags: Mapping[str, str]) -> str:
    rows = {
        "stage": tags["stage"],
        "data": tags.get("data", ""),
        "data digest": tags["dataset_digest"],
        "made from": tags["parent"],
        "given, not trained here; its digest": tags.get(GIVEN, ""),
        "fingerprint": tags["fingerprint"],
        "code": tags["code_version"],
        "licence": tags.get("licence", "as the data's; the code's is Apache-2.0"),
    }
    return "\n".join(f"- {key}: {value}" for key, value in rows.items() if value)
