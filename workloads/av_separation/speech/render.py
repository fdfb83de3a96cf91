"""Draws a mouth from its shape: grey pictures of 48 by 48 px, as a cropped video would show it.

Every face has a look of its own (shade of skin and lips, size, place, light, noise) and its head moves a little.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

SIZE = 48
_AT_ONCE = 32  # frames: 32 * 48 * 48 floats stay in the processor's cache

_GRAINS = 61

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Look:
    """Shades are 0 (black) to 1 (white); lengths are parts of half the picture."""

    skin: float
    lips: float
    teeth: float
    cavity: float
    width: float
    height: float
    thick: float
    x: float
    y: float
    light_x: float
    light_y: float
    turn: float
    sway: float
    noise: float
    soft: float

    @classmethod
    def drawn_by(cls, rng: np.random.Generator) -> "Look":
        """Lips are nearer to the skin's shade or darker than it, as they are in grey pictures."""
        skin = rng.uniform(0.30, 0.85)
        return cls(
            skin=skin,
            lips=skin * rng.uniform(0.55, 0.88),
            teeth=min(0.97, max(0.55, skin + rng.uniform(-0.05, 0.3))),
            cavity=rng.uniform(0.03, 0.16),
            width=rng.uniform(0.56, 0.78),
            height=rng.uniform(0.26, 0.40),
            thick=rng.uniform(0.10, 0.19),
            x=rng.uniform(-0.12, 0.12),
            y=rng.uniform(-0.20, 0.00),
            light_x=rng.uniform(-0.15, 0.15),
            light_y=rng.uniform(-0.12, 0.12),
            turn=rng.uniform(-0.10, 0.10),
            sway=rng.uniform(0.01, 0.05),
            noise=rng.uniform(0.004, 0.025),
            soft=rng.uniform(0.035, 0.07),
        )


def render(shapes: NDArray[np.uint8], look: Look, seed: int, first: int = 0, frames: int | None = None) -> Bytes:
    """(all, 5) → (frames, 48, 48), 0…255: of a clip's frames, so many from `first` on. A frame looks the same, however
    many are drawn with it."""
    last = len(shapes) if frames is None else min(first + frames, len(shapes))
    head = np.random.default_rng(seed).standard_normal((3, len(shapes) + 50)).astype(np.float32)
    head = gaussian_filter1d(head, 12, axis=1, mode="wrap") * np.float32(6.5 * look.sway)
    pictures = np.empty((last - first, SIZE, SIZE), np.uint8)
    for start in range(first, last, _AT_ONCE):
        stop = min(start + _AT_ONCE, last)
        drawn = _draw(shapes[start:stop].astype(np.float32) * np.float32(1 / 255), look, head[:, start:stop])
        drawn += _grain()[(np.arange(start, stop) * 29 + seed) % _GRAINS] * np.float32(look.noise)
        pictures[start - first : stop - first] = (drawn.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return pictures


@cache
def _grain() -> Floats:
    """(61, 48, 48): the noise of a camera, of which each picture takes another one than its neighbours."""
    return np.random.default_rng(0).standard_normal((_GRAINS, SIZE, SIZE), np.float32)


def _draw(shape: Floats, look: Look, head: Floats) -> Floats:
    """(frames, 5) and (3, frames) → (frames, 48, 48). Edges run down the picture: y grows towards the chin."""
    opened, wide, pursed, teeth, tongue = (column[:, None, None] for column in shape.T)
    sway_x, sway_y, turn = (row[:, None, None] for row in head)
    line = np.linspace(-1, 1, SIZE, dtype=np.float32)
    x, y = line[None, None, :] - look.x - sway_x, line[None, :, None] - look.y - sway_y
    turn = turn + np.float32(look.turn)
    u, v = x + turn * y, y - turn * x
    half = look.width * (0.78 + 0.34 * wide - 0.38 * pursed)
    arch: Floats = np.maximum(0, 1 - (u / half) ** 2)  # 1 in the middle of the mouth, 0 from its corners on
    apart = look.height * 2 * opened * arch
    upper, lower = -0.30 * apart, 0.70 * apart  # the jaw goes down, the upper lip hardly moves
    full = np.sqrt(arch) * look.thick * (1 + 0.45 * pursed - 0.2 * wide)
    sharp = np.float32(1 / look.soft)

    def above(edge: Floats) -> Floats:
        part: Floats = ((edge - v) * sharp + np.float32(0.5)).clip(0, 1)
        return part

    inside = above(lower) - above(upper)
    outside = above(lower + 1.25 * full) - above(upper - full)
    # skin, lit from a side; the chin's fold moves with the jaw
    fold = v - 0.52 - 1.2 * look.height * opened
    drawn: Floats = look.skin * (1 + look.light_x * x + look.light_y * y - 0.16 * np.exp(-((fold / 0.10) ** 2)))
    drawn += (look.lips * (1 - 0.25 * (v - upper)) - drawn) * outside
    bite = above(upper + np.minimum(apart, 0.16) * teeth)
    mouth = look.cavity + (look.teeth - look.cavity) * bite * np.minimum(1, 1.6 * teeth)
    mouth = mouth + (0.55 * look.skin - look.cavity) * 0.8 * tongue * (1 - above(lower - 0.35 * apart)) * (1 - bite)
    made: Floats = drawn + (mouth - drawn) * inside
    return made
