"""Pictures that a page has in itself: data URIs."""

import base64
import io

import numpy as np
from PIL import Image

_JPEG_FROM = 64  # pixels; a smaller picture is smaller as PNG, and sharper


def picture_uri(pixels: np.ndarray, exact: bool = False) -> str:
    """uint8 (H, W, 3), or 4 with transparency, as a picture. exact: to the pixel."""
    kind = "JPEG" if min(pixels.shape[:2]) >= _JPEG_FROM and not exact else "PNG"
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
