"""What answers HTTP: reads and decodes within bounds, queues, and hands batches to the replicas."""

import asyncio
import json
import time
from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from ray import serve
from ray.serve.handle import DeploymentHandle

from dsnet.errors import InputError
from dsnet.routing.target import parse_target
from dsnet.runtime.answers import classified
from pipeline.predict.serve.batches import Batches
from pipeline.predict.serve.bodies import Bodies
from pipeline.predict.serve.fair import Full, Room, Threads, client_at
from pipeline.predict.serve.large import LargeImages
from pipeline.predict.serve.metrics import Metrics
from pipeline.predict.serve.network import steadily
from pipeline.predict.serve.policy import Policy
from pipeline.predict.serve.prepare import About
from pipeline.predict.serve.requests import (
    MOST_HELD,
    MOST_PIXELS_TOGETHER,
    MOST_REQUESTS,
    MOST_WAITING,
    Refusal,
    declared_length,
    declared_pixels,
    pixels_of,
    read_body,
)

T = TypeVar("T")

BUDGET_HEADER = "dsnet-budget"
DECODERS = 2  # threads
LARGE = 2**22  # pixels; larger ones take hundreds of MB and seconds, and are decoded elsewhere

_ROW = {
    "type": "object",
    "properties": {
        "label": {"type": "integer"},
        "class": {"type": ["string", "null"]},
        "confidence": {"type": "number", "description": "softmax probability"},
        "width": {"type": "integer", "description": "sub-network that the gate picked"},
        "madds": {"type": "integer", "description": "multiply-adds of that sub-network"},
        "labels": {"type": "array", "items": {"type": "integer"}},
        "classes": {"type": "array", "items": {"type": ["string", "null"]}},
        "confidences": {"type": "array", "items": {"type": "number"}},
    },
    "required": ["label", "class", "confidence", "width", "madds"],
}
_ERROR = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}}
        }
    }
}
_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {"type": "string", "contentEncoding": "base64"},
                    },
                    "budget": {"type": ["number", "string", "null"]},
                    "top_k": {"type": ["integer", "null"]},
                },
            }
        },
    },
}

_HEADERS = {503: {"retry-after": "1"}, 408: {"connection": "close"}}

app = FastAPI(title="dsnet serve", version="1", redoc_url=None)
# Unlike FastAPI's own at /docs, it loads nothing from elsewhere.
_PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


@app.get("/", include_in_schema=False)
async def _page() -> Response:
    return Response(_PAGE, media_type="text/html")


@app.exception_handler(404)
@app.exception_handler(405)
async def _not_found(_: Request, error: HTTPException) -> Response:
    return _answer({"error": str(error.detail)}, error.status_code)


@app.exception_handler(RequestValidationError)
async def _invalid(_: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    found = str(first.get("input"))[:40]
    return _answer({"error": f"{first['loc'][-1]}: {first['msg']}, found {found!r}"}, 400)


def _answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        json.dumps(document, ensure_ascii=False) + "\n",
        status,
        media_type="application/json",
        headers=headers,
    )


async def _all(waited: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all come to; where one fails, or whoever asked goes, none of the others goes on."""
    tasks = [asyncio.create_task(each) for each in waited]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@serve.ingress(app)
class Front:
    """network: the replicas."""

    def __init__(self, network: DeploymentHandle[Any], about: About):
        self._about = about
        policy = Policy(about.goal) if about.goal else None
        self._run = steadily(network)
        self._batches = Batches(self._run, about.replicas, about.budget, policy, self._note_batch)
        self._metrics = Metrics(
            lambda: self._active, lambda: len(self._batches), self._spending, len(about.madds)
        )
        self._decoders = Threads(DECODERS, "decode")
        self._large_decoders = Threads(1, "decode-large")
        self._large_pixels_of = LargeImages()
        self._requests, self._bytes = Room(MOST_REQUESTS), Room(MOST_HELD)
        self._images = Room(MOST_WAITING)
        self._bodies = Bodies()
        self._active = 0
        self._closing = False

    @app.post(
        "/predict",
        openapi_extra={"requestBody": _BODY},
        responses={
            200: {"content": {"application/json": {"schema": {"type": "array", "items": _ROW}}}},
            400: {"description": "Wrong input", **_ERROR},
            408: {"description": "The body did not arrive in time", **_ERROR},
            411: {"description": "No Content-Length", **_ERROR},
            413: {"description": "Too large", **_ERROR},
            503: {"description": "Too many requests wait, or the server is ending", **_ERROR},
        },
    )
    async def predict(
        self,
        request: Request,
        budget: Annotated[
            str | None,
            Query(description="multiply-adds to spend: 0.5 of the widest route's, or 200M"),
        ] = None,
        top_k: Annotated[int | None, Query(description="give the K likeliest classes too")] = None,
    ) -> Response:
        """Classify an image, the body, or several in JSON: a list with an answer for each."""
        start = time.perf_counter()
        self._active += 1
        status = 500
        try:
            response = await self._predict(request, budget, top_k)
            status = response.status_code
        except (InputError, Full, Refusal) as error:
            status = 503 if isinstance(error, Full) else getattr(error, "status", 400)
            response = _answer({"error": str(error)}, status, _HEADERS.get(status))
        except asyncio.CancelledError:  # whoever asked has gone
            status = 499
            raise
        finally:
            self._active -= 1
            self._metrics.requests.labels(status).inc()
            self._metrics.latency.observe(time.perf_counter() - start)
        return response

    @app.get("/health")
    async def health(self) -> Response:
        """200 while requests are taken, 503 while the server ends."""
        status = "ending" if self._closing else "ok"
        document = {"status": status, "waiting": len(self._batches)}
        return _answer(document, 503 if self._closing else 200)

    @app.get("/metrics")
    async def metrics(self) -> Response:
        """In Prometheus' text format."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def warm(self) -> None:
        """Return when every replica has run; what a first batch takes is no measure of others."""
        side = self._about.resolution
        nothing = np.zeros((1, side, side, 3), np.uint8)
        for _ in range(3):
            await asyncio.gather(
                *(self._run(nothing, self._about.budget) for _ in range(self._about.replicas))
            )

    async def drain(self) -> None:
        """Refuse what comes from now on; return when all that came before is answered."""
        self._closing = True
        self._bodies.end()
        while self._active:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)  # for the proxy to send the last of them

    async def _predict(self, request: Request, budget: Any, top_k: Any) -> Response:
        if self._closing:
            raise Refusal(503, "the server is ending")
        declared_length(request.headers.get("content-length"))
        client = client_at(request.client.host if request.client else "")
        with (
            self._requests.share(client) as hold_request,
            self._bytes.share(client) as hold_bytes,
            self._images.share(client) as hold_images,
        ):
            hold_request(1)
            body = await self._bodies.read(request.receive, hold_bytes)
            asked = read_body(body, request.headers.get("content-type", ""))
            budget = asked.budget if budget is None else budget
            spend, top_k = self._spend(budget), self._top_k(asked.top_k if top_k is None else top_k)
            hold_images(len(asked.images))
            pixels = await self._decoded(asked.images, client)
            answers = await _all(self._batches(each, spend, client) for each in pixels)
        logits = np.concatenate([answer.logits for answer in answers])
        widths = np.concatenate([answer.widths for answer in answers])
        madds = np.concatenate([answer.madds for answer in answers])
        for width in widths.tolist():
            self._metrics.width.observe(width)
        columns = classified(logits, widths, madds, self._about.classes, top_k)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        spent = self._spending(answers[-1].budget) / max(self._about.route_madds())
        return _answer(rows, headers={BUDGET_HEADER: f"{spent:.4f}"})

    async def _decoded(self, images: list[bytes], client: str) -> list[np.ndarray]:
        """Each as the model takes it; Refusal, before any is decoded, for too many pixels."""
        sizes = await _all(self._decoders(client, declared_pixels, each) for each in images)
        if sum(sizes) > MOST_PIXELS_TOGETHER:
            raise Refusal(
                413,
                f"images: expected up to {MOST_PIXELS_TOGETHER:,} pixels of all together, found "
                f"{sum(sizes):,}; send fewer at a time",
            )

        def decoded(index: int, image: bytes, size: int) -> Coroutine[Any, Any, np.ndarray]:
            wanted = (f"image {index}", self._about.resolution, self._about.crop)
            if size > LARGE:
                return self._large_decoders(client, self._large_pixels_of, image, *wanted)
            return self._decoders(client, pixels_of, image, *wanted)

        return await _all(map(decoded, range(len(images)), images, sizes))

    def _spend(self, budget: Any) -> float | None:
        if budget is None:
            return None
        try:
            wanted = parse_target(budget).madds(self._about.route_madds())
        except InputError as error:
            raise InputError(f"budget: {error}") from None
        if self._about.unspendable:
            raise InputError(self._about.unspendable)
        return wanted

    def _top_k(self, top_k: Any) -> int:
        classes = self._about.outputs
        if top_k is None:
            return 1
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= classes:
            raise InputError(
                f"top_k: expected 1 to {classes}, the number of classes, found {str(top_k)[:40]}"
            )
        return top_k

    def _spending(self, budget: float | None = None) -> float:
        """Multiply-adds per image of a budget, or of the present one."""
        budget = self._batches.budget if budget is None else budget
        return self._about.average if budget is None else budget

    def _note_batch(self, size: int, seconds: float) -> None:
        self._metrics.batch(size, seconds)
