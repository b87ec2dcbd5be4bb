"""What the server counts, as Prometheus reads it."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16)


disable_created_metrics()  # when each was first counted: as many lines again


class Metrics:
    """
    active, waiting, budget: asked when the metrics are; the budget in multiply-adds per image.
    widths: how many sub-networks there are.
    """

    def __init__(
        self,
        active: Callable[[], float],
        waiting: Callable[[], float],
        budget: Callable[[], float],
        widths: int,
    ):
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "dsnet_requests", "Requests to /predict by HTTP status.", ["status"], registry=registry
        )
        self.latency = Histogram(
            "dsnet_request_seconds",
            "From a request's arrival at the server to its answer.",
            registry=registry,
            buckets=SECONDS,
        )
        self.batch_size = Histogram(
            "dsnet_batch_images", "Images of a batch.", registry=registry, buckets=SIZES
        )
        self.batch_seconds = Histogram(
            "dsnet_batch_seconds",
            "From a batch's dispatch to its answers.",
            registry=registry,
            buckets=SECONDS,
        )
        self.width = Histogram(
            "dsnet_width",
            "Sub-networks that images took, by index in the routing space.",
            registry=registry,
            buckets=range(widths),
        )
        for name, text, ask in (
            ("dsnet_active_requests", "Requests that are not answered yet.", active),
            ("dsnet_waiting_images", "Images that no replica has begun.", waiting),
            ("dsnet_budget_madds", "Multiply-adds per image that are spent now.", budget),
        ):
            Gauge(name, text, registry=registry).set_function(ask)

    def batch(self, size: int, seconds: float) -> None:
        """Note a batch."""
        self.batch_size.observe(size)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)
