"""Arrays as small pictures: PNG with a palette, made without a drawing library, and the bar that goes with it."""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from spilegate.records import Float64, UInt8
from spilegate.report.page.markup import text

# Seventeen colours of each of Matplotlib's maps of this name (CC0), between which a palette is linear.
STOPS = {
    "viridis": "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c "
    "1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725",
    "magma": "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf",
    "cividis": "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 "
    "8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838",
}
# The palette's last entry stands for no value.
LEVELS = 255
# Pictures have no more pixels than this along an edge; larger arrays are averaged.
LARGEST = 300


@dataclass(frozen=True)
class Scale:
    """How values become colours, and what the bar beside a picture says.

    low, high : values of the first and last colour; name : of a map in STOPS; logarithmic : or linear
    """

    low: float
    high: float
    name: str = "viridis"
    logarithmic: bool = False

    def levels(self, values: Float64) -> UInt8:
        """Return the colours' numbers (...) uint8 of values (...), LEVELS where they are no numbers."""
        low, high = np.log([self.low, self.high]) if self.logarithmic else (self.low, self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = np.log(np.maximum(values, self.low)) if self.logarithmic else values
            part = np.clip((shown - low) / (high - low or 1.0), 0, 1)
        known = np.isfinite(values)
        return np.where(known, np.where(known, part, 0) * (LEVELS - 1), LEVELS).round().astype(np.uint8)


@lru_cache
def palette(name: str) -> UInt8:
    """Return the colours (LEVELS, 3) uint8 of a map of STOPS."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (0, 2, 4)] for stop in STOPS[name].split()])
    place = np.linspace(0, len(stops) - 1, LEVELS)
    return (
        np.stack([np.interp(place, np.arange(len(stops)), stops[:, i]) for i in range(3)], -1).round().astype(np.uint8)
    )


def png(levels: UInt8, name: str) -> bytes:
    """Return a PNG of numbers of colours (rows, columns) uint8; LEVELS is transparent."""
    rows, columns = levels.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = np.zeros((rows, columns + 1), np.uint8)
    lines[:, 1:] = levels
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
        (b"PLTE", palette(name).tobytes() + bytes(3)),
        (b"tRNS", b"\xff" * LEVELS + b"\x00"),
        (b"IDAT", zlib.compress(lines.tobytes(), 6)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def image(values: Float64, scale: Scale, alt: str, *, smooth: bool = False) -> str:
    """Return an image of an array (rows, columns), NaN transparent; smooth : blurred between pixels when enlarged."""
    data = base64.b64encode(png(scale.levels(reduced(values)), scale.name)).decode("ascii")
    kind = "smooth" if smooth else "pixels"
    return f'<img class="{kind}" alt="{text(alt)}" src="data:image/png;base64,{data}">'


def reduced(array: Any, most: int = LARGEST) -> Float64:
    """Return an array with at most so many pixels along an edge: means of blocks, of what is known in them."""
    values: Float64 = np.asarray(array, np.float64)
    step = -(-max(values.shape) // most)
    if step == 1:
        return values
    rows, columns = (-(-size // step) for size in values.shape)
    padded = np.full((rows * step, columns * step), np.nan)
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows, step, columns, step)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def bar(scale: Scale, label: str) -> str:
    """Return the bar of a scale, with its ends and its middle, and what they are."""
    colours = ",".join(f"#{stop}" for stop in STOPS[scale.name].split())
    middle = (scale.low * scale.high) ** 0.5 if scale.logarithmic else (scale.low + scale.high) / 2
    ends = "".join(f"<span>{value:.3g}</span>" for value in (scale.low, middle, scale.high))
    return (
        f'<div class="bar"><div class="ramp" style="background:linear-gradient(to right,{colours})"></div>'
        f'<div class="ends">{ends}</div><div class="unit">{text(label)}</div></div>'
    )
