"""What a page shows and has in itself: data URIs."""

import base64
import io

import numpy as np
from PIL import Image

_JPEG_FROM = 64  # pixels; a smaller picture is smaller as PNG, and sharper


def picture_uri(pixels: np.ndarray, exact: bool = False) -> str:
    """uint8 (H, W, 3) as a picture. exact: to the pixel."""
    kind = "JPEG" if min(pixels.shape[:2]) >= _JPEG_FROM and not exact else "PNG"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=85)
    return _uri(kind.lower(), file.getvalue())


def drawing_uri(svg: str) -> str:
    """An SVG that stands by itself as a picture: its styles are its own."""
    return _uri("svg+xml", svg.encode())


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
