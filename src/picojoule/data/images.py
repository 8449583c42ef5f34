"""Pixels of encoded images, by Pillow."""

import io

import numpy as np

from picojoule.errors import BadInput


class Unreadable(ValueError):
    """Bytes that are not the image that was expected; the message says what they are."""


def decode(raw: bytes, form: str, side: int, modes: tuple[str, ...], what: str) -> np.ndarray:
    """An image of `side` x `side` pixels as RGB, uint8 `[side, side, 3]`; greyscale has three equal channels.

    `form` is Pillow's name of the file format, `modes` are Pillow's names of the colours allowed.

    Raises Unreadable for anything else, and BadInput, naming `what`, if Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise BadInput(f"{what} with Pillow, which is not installed: pip install 'picojoule[images]'") from None
    try:
        with Image.open(io.BytesIO(raw), formats=[form]) as image:
            if image.size != (side, side) or image.mode not in modes:
                raise Unreadable(f"{image.size[0]} x {image.size[1]} {image.mode} pixels")
            return np.asarray(image.convert("RGB"))
    except (
        OSError,
        EOFError,
        SyntaxError,
        Image.DecompressionBombError,
    ) as error:
        raise Unreadable(f"{len(raw):,} bytes that do not decode ({type(error).__name__})") from None
