"""What comes in over HTTP, within bounds: refused before it takes memory, in one sentence."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsnet.errors import InputError
from dsnet.errors.text import shown
from dsnet.runtime.pictures import opened, read_picture
from dsnet.runtime.pixels import prepare

MOST_BODY = 2**24  # bytes of a request
MOST_IMAGES = 64  # of a request
MOST_PIXELS = 2**25  # that an image may declare
MOST_PIXELS_TOGETHER = 2**26  # that the images of a request may declare
MOST_PARTS = 1000  # lists, objects and commas of a body in JSON, which become Python's objects
# Of all requests that are not answered yet:
MOST_HELD = 2**28  # bytes that have arrived
MOST_WAITING = 2048  # images
MOST_REQUESTS = 2048


class Refusal(Exception):
    """status: of HTTP. The text is one sentence."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """images: encoded. budget, top_k: as they were given, or None."""

    images: list[bytes]
    budget: Any = None
    top_k: Any = None


def declared_length(header: str | None) -> int:
    """The bytes that a request says it has. Raises Refusal where it does not, or for too many."""
    if header is None or not header.isascii() or not header.isdigit():
        raise Refusal(411, "expected a Content-Length header, which bounds what is read")
    if len(header) > 12 or int(header) > MOST_BODY:
        raise Refusal(413, f"expected a request of up to {MOST_BODY:,} bytes, found {header[:20]}")
    return int(header)


def read_body(body: bytes, content_type: str) -> Asked:
    """A request's body: one encoded image, or JSON with several as base64 text.

    Raises Refusal or InputError for anything else.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise Refusal(
            415, "expected an image's bytes as the body, or JSON with base64 images, found a form"
        )
    if kind != "application/json":
        return Asked([body])
    if sum(map(body.count, (b"[", b"{", b","))) > MOST_PARTS:
        raise InputError(f"body: expected JSON with up to {MOST_IMAGES} images, found much more")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("body: expected JSON, found none that parses") from None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise InputError('body: expected {"images": [base64 text, …], "budget": …, "top_k": …}')
    if unknown := sorted(document.keys() - {"images", "budget", "top_k"}):
        raise InputError(f"body: expected images, budget and top_k, found {unknown[0][:40]!r}")
    texts = document["images"]
    if not 1 <= len(texts) <= MOST_IMAGES:
        raise InputError(f"images: expected 1 to {MOST_IMAGES}, found {len(texts):,}")
    images = [_decoded(text, f"images[{index}]") for index, text in enumerate(texts)]
    return Asked(images, document.get("budget"), document.get("top_k"))


def _decoded(text: object, place: str) -> bytes:
    """The bytes of base64 text, which may have line breaks in it or be a data: URI."""
    if isinstance(text, str):
        kind, _, content = text.partition(",") if text.startswith("data:") else ("", "", text)
        try:
            if not kind or kind.endswith(";base64"):
                return base64.b64decode(content.encode().translate(None, b" \t\r\n"), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise InputError(f"{place}: expected base64 text, found {shown(text)}")


def declared_pixels(image: bytes) -> int:
    """How many pixels an image's header declares; 0 for what will be refused when it is decoded."""
    try:
        with opened(image, "", MOST_PIXELS, enough=0) as picture:
            return picture.width * picture.height
    except InputError:
        return 0


def pixels_of(image: bytes, place: str, resolution: int, crop: float) -> np.ndarray:
    """An encoded image as the model takes it: uint8 (R, R, 3). Raises InputError if it is none."""
    picture = read_picture(image, place, most_pixels=MOST_PIXELS)
    return prepare(picture[None], resolution, crop)[0]
