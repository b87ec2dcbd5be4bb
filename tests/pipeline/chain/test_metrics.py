"""What a training is at can be scraped from its node, and the dashboard asks for nothing else."""

import json
import re
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from pipeline.cluster.metrics import GPU_MEMORY_BYTES, METRICS, PREFIX, TAGS, StageMetrics
from pipeline.training.worker_group import WorkerGroup
from tests.pipeline.chain import faults

pytestmark = pytest.mark.usefixtures("ray_cluster")

DASHBOARD = Path(__file__).parents[3] / "jobs" / "cluster" / "grafana.json"
PATIENCE = 60  # seconds: Ray's processes tell their agent every ten


def scraped(name: str) -> dict[str, list[Sample]]:
    """By metric, what the nodes give of the configuration `name`."""
    found: dict[str, list[Sample]] = {}
    for node in ray.nodes():
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urlopen(address, timeout=10) as answer:
            lines = answer.read().decode().splitlines(keepends=True)
        text = "".join(line for line in lines if f"{PREFIX}dsnet_" in line)  # of thousands
        for family in text_string_to_metric_families(text):
            if ours := [sample for sample in family.samples if sample.labels["name"] == name]:
                found.setdefault(family.name.removeprefix(PREFIX), []).extend(ours)
    return found


def test_a_training_s_figures_are_scraped_from_its_node_with_their_tags(
    workers: WorkerGroup,
) -> None:
    version = faults.supernet_of(faults.short("metered"), workers)
    # The machine has no GPU perhaps: what a worker on one tells, as if another stage did.
    told = {"gpu_1_memory_usage_megabytes": 2.5, "gpu_1_memory_usage_percentage": 50.0}
    StageMetrics("metered", "elsewhere").record(None, (1, 2), {}, {3: told})
    expected = {metric.name for metric in METRICS}
    until = time.monotonic() + PATIENCE
    while (found := scraped("metered")).keys() != expected and time.monotonic() < until:
        time.sleep(0.5)
    assert found.keys() == expected
    values = {}
    for metric in METRICS:
        for sample in found[metric.name]:
            tags = {tag: sample.labels[tag] for tag in (*TAGS, *metric.tags)}
            values[metric.name.removeprefix("dsnet_training_"), *tags.values()] = sample.value
    of = ("metered", "supernet", version.run_id)
    assert values["steps_done", *of] == values["steps_planned", *of] == faults.STEPS
    assert values["images_per_second", *of] > 0 and values["learning_rate", *of] > 0
    assert 0 < values["data_wait_ratio", *of] < 1
    losses = {key[-1] for key in values if key[0] == "loss"}
    assert losses == {"largest", "random_0", "random_1", "smallest"}
    gpu = GPU_MEMORY_BYTES.name.removeprefix("dsnet_training_")
    assert values[gpu, "metered", "elsewhere", "", "3", "1"] == 2.5e6


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    queries = [target["expr"] for target in targets]
    queries += [each["query"] for each in dashboard["templating"]["list"]]
    asked = {name for query in queries for name in re.findall(r"\b[a-z]+_dsnet_\w+", query)}
    assert asked == {PREFIX + metric.name for metric in METRICS}
    known = {metric.name: {*TAGS, *metric.tags} for metric in METRICS}
    for target in targets:
        (name, *_) = re.findall(rf"{PREFIX}(dsnet_\w+)", target["expr"])
        labels = {*re.findall(r"(\w+)=~", target["expr"])}
        labels |= {*re.findall(r"{{(\w+)}}", target["legendFormat"])}
        assert labels <= known[name]
        assert target["datasource"]["uid"] == "${datasource}"
