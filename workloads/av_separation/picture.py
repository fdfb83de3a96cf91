"""A picture of sounds before and after: one spectrogram below the other, as SVG that any browser shows.

All share one scale of level, so that what is dark in one and bright in another can be compared. Written without a
drawing library: the spectrograms are PNGs (ISO/IEC 15948) inside of the SVG.
"""

import base64
import html
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.av_separation.media import RATE, Floats

WINDOW = 512  # samples: 32 ms, as the model looks at sound
COLUMNS = 840
MOST_LOOKS = 16  # windows in one column of a long film
RANGE_DB = 70.0
HEIGHT = 132  # of one spectrogram, px
LEFT, RIGHT, TOP, BETWEEN, BOTTOM = 58, 84, 14, 34, 44

_ANCHORS = np.array(
    [
        *((68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142)),
        *((31, 158, 137), (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37)),
    ]
)
"""Viridis (van der Walt and Smith 2015, CC0): even steps of level look even, in grey and to the colour-blind, too."""


def _palette() -> bytes:
    """256 colours: red, green, blue."""
    at, ends = np.linspace(0, 1, 256), np.linspace(0, 1, len(_ANCHORS))
    colours = np.stack([np.interp(at, ends, part) for part in _ANCHORS.T], axis=1)
    return bytes(np.rint(colours).astype(np.uint8).tobytes())


def png(shares: npt.NDArray[np.floating[Any]]) -> bytes:
    """(height, width) of 0 ... 1 as a PNG in these colours."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
    height, width = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)  # each begins with its filter: none
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)) + chunk(b"PLTE", _palette())
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")


def spectrogram(sound: Floats, columns: int = COLUMNS) -> npt.NDArray[np.float64]:
    """(samples,) to power (WINDOW // 2 + 1, columns). Of a long sound each column is the mean of a few windows, spread
    over it; `sound` may be a file mapped to memory."""
    window = np.hanning(WINDOW + 1)[:-1]
    step = max(len(sound), 1) / columns
    looks = min(MOST_LOOKS, max(1, math.ceil(step / (WINDOW // 4))))
    power = np.zeros((columns, WINDOW // 2 + 1))
    for column in range(columns):
        for look in range(looks):
            middle = round((column + (look + 0.5) / looks) * step)
            start = middle - WINDOW // 2
            piece = np.zeros(WINDOW)
            there = sound[max(0, start) : max(0, start + WINDOW)]
            offset = max(0, -start)
            piece[offset : offset + len(there)] = there
            power[column] += np.abs(np.fft.rfft(piece * window)) ** 2 / looks
    return power.T


def write_spectrograms(path: Path, sounds: Sequence[tuple[str, Floats]], rate: int = RATE) -> None:
    """An SVG with one spectrogram of each (title, sound), the first being the film's."""
    powers = [spectrogram(sound) for _, sound in sounds]
    # The loudest thousandth is white: a single click would leave all else dark.
    loudest = max([float(np.quantile(power, 0.999)) for power in powers], default=0.0)
    top = 10 * math.log10(max(loudest, 1e-12))
    seconds = max([len(sound) / rate for _, sound in sounds], default=0.0)
    width = LEFT + COLUMNS + RIGHT
    height = TOP + len(sounds) * (BETWEEN + HEIGHT) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="Spectrograms before and after the separation">',
        "<style>"
        ".ground{fill:#fff}text{fill:#24292f;font:12px system-ui,sans-serif}.title{font-weight:600;font-size:13px}"
        ".tick{stroke:#6e7781;stroke-width:1}.frame{fill:none;stroke:#6e7781;stroke-width:1}"
        "@media (prefers-color-scheme:dark){.ground{fill:#0d1117}text{fill:#e6edf3}"
        ".tick,.frame{stroke:#8b949e}}"
        "</style>",
        f'<rect class="ground" width="{width}" height="{height}"/>',
    ]
    for number, ((title, sound), power) in enumerate(zip(sounds, powers, strict=True)):
        y = TOP + number * (BETWEEN + HEIGHT) + BETWEEN - 8
        level = 10 * np.log10(np.maximum(power, 1e-12)) - top
        shares = 1 + level[::-1] / RANGE_DB
        wide = COLUMNS * (len(sound) / rate / seconds if seconds else 1)
        parts.append(f'<text class="title" x="{LEFT}" y="{y - 8}">{html.escape(title)}</text>')
        parts.append(_image(shares, LEFT, y, wide, HEIGHT))
        parts.append(f'<rect class="frame" x="{LEFT}" y="{y}" width="{COLUMNS}" height="{HEIGHT}"/>')
        for kilohertz in range(0, rate // 2000 + 1, 2):
            at = y + HEIGHT * (1 - kilohertz * 2000 / rate)
            parts.append(f'<line class="tick" x1="{LEFT - 5}" x2="{LEFT}" y1="{at:.1f}" y2="{at:.1f}"/>')
            parts.append(f'<text x="{LEFT - 9}" y="{at + 4:.1f}" text-anchor="end">{kilohertz}</text>')
        for second in _ticks(seconds):
            at = LEFT + COLUMNS * second / seconds
            parts.append(f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{y + HEIGHT}" y2="{y + HEIGHT + 5}"/>')
            if number == len(sounds) - 1:
                told = f"{second:g}" if seconds < 120 else f"{int(second) // 60}:{int(second) % 60:02}"
                parts.append(f'<text x="{at:.1f}" y="{y + HEIGHT + 19}" text-anchor="middle">{told}</text>')
    bottom = height - BOTTOM - 8
    unit = "s" if seconds < 120 else "min:s"
    parts.append(f'<text x="{LEFT + COLUMNS / 2}" y="{bottom + 40}" text-anchor="middle">time, {unit}</text>')
    middle = (TOP + BETWEEN + bottom) / 2
    parts.append(f'<text transform="translate(16 {middle:.0f}) rotate(-90)" text-anchor="middle">frequency, kHz</text>')
    parts.extend(_bar(LEFT + COLUMNS + 18, TOP + BETWEEN - 8))
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def _bar(x: float, y: float) -> list[str]:
    parts = [_image(np.linspace(1, 0, 128)[:, None], x, y, 12, HEIGHT)]
    parts.append(f'<rect class="frame" x="{x}" y="{y}" width="12" height="{HEIGHT}"/>')
    for level in (0, -20, -40, -60):
        at = y - HEIGHT * level / RANGE_DB
        told = f"−{-level}" if level else "0 dB"
        parts.append(f'<line class="tick" x1="{x + 12}" x2="{x + 16}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{x + 20}" y="{at + 4:.1f}">{told}</text>')
    return parts


def _image(shares: npt.NDArray[np.floating[Any]], x: float, y: float, width: float, height: float) -> str:
    content = base64.b64encode(png(shares)).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width:.1f}" height="{height}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{content}"/>'
    )


def _ticks(seconds: float) -> list[float]:
    """Round moments, about ten."""
    if seconds <= 0:
        return []
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
    step = next((step for step in steps if seconds / step <= 12), 7200)
    return [round(step * number, 1) for number in range(int(seconds / step + 1e-9) + 1)]
