"""Small films, drawn and sounded for a test."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (128, 192)  # height, width


def speech(seconds: float, pitch: float = 120.0, rate: int = 16_000, seed: int = 0) -> Any:
    """Harmonics that come and go a few times a second: enough like speech to have a loudness. (samples,)"""
    at = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    tone = sum(np.sin(2 * np.pi * pitch * n * at + rng.uniform(0, 6)) / n for n in range(1, 20))
    return (0.1 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * (2 + seed) * at + seed))).astype(np.float32)


def opening(frame: int, face: int) -> float:
    """How far the mouth of a face is open, 0 to 1."""
    return float(0.5 + 0.5 * np.sin(frame * (0.5 + 0.2 * face) + face))


def place(face: int) -> tuple[int, int]:
    """The middle of a face's mouth: x, y."""
    return 48 + 96 * face, 80


def mouth_box(face: int) -> list[int]:
    x, y = place(face)
    return [x - 14, y - 9, x + 14, y + 9]


def scene(frame: int, faces: int = 2) -> Any:
    """(height, width) of grey: heads with a dark mouth that opens."""
    picture = np.full(SIZE, 60, np.uint8)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for face in range(faces):
        middle, mouth = place(face)
        picture[((x - middle) / 34) ** 2 + ((y - mouth + 24) / 48) ** 2 < 1] = 190 - 20 * face
        picture[((x - middle) / 13) ** 2 + ((y - mouth) / (1 + 8 * opening(frame, face))) ** 2 < 1] = 30
    return picture


def film(
    path: Path,
    *,
    seconds: float = 2.0,
    pictures: Sequence[Any] | None = None,
    times: Sequence[float] | None = None,
    sound: Any | None = None,
    rate: int = 16_000,
    codec: str = "libx264",
    sound_codec: str = "aac",
    sound_from: float = 0.0,
    fps: int = 25,
    faces: int = 2,
    turned: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Two heads that speak, unless `pictures` (grey, or none at all) and `sound` (mono, or 0 samples) say otherwise."""
    drawn = [scene(at, faces) for at in range(round(seconds * fps))] if pictures is None else pictures
    heard = speech(seconds, rate=rate) + speech(seconds, 190, rate, 1) if sound is None else sound
    with av.open(str(path), "w", options=options or {}) as target:
        stream: Any = None
        if len(drawn):
            stream = target.add_stream(codec, rate=fps)
            stream.height, stream.width = drawn[0].shape
            stream.pix_fmt = "yuv420p" if codec != "ffvhuff" else "yuv422p"
            if turned:
                stream.set_display_rotation(turned)
            if codec == "libx264":
                stream.options = {"preset": "ultrafast", "crf": "10", "threads": "1"}
        voice: Any = None
        if len(heard):
            voice = target.add_stream(sound_codec, rate=rate, layout="mono")
        for at, picture in enumerate(drawn):
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format=stream.pix_fmt)
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
                frame.pts, frame.time_base = round(times[at] * 1000), Fraction(1, 1000)
            target.mux(stream.encode(frame))
        if stream is not None:
            target.mux(stream.encode())
        for start in range(0, len(heard), 1024):
            block = np.ascontiguousarray(heard[None, start : start + 1024], np.float32)
            whole = block if voice.format.name.startswith("flt") else (block * 32767).astype(np.int16)
            sample = av.AudioFrame.from_ndarray(whole, format=voice.format.name, layout="mono")
            sample.sample_rate, sample.time_base = rate, Fraction(1, rate)
            sample.pts = start + round(sound_from * rate)
            target.mux(voice.encode(sample))
        if voice is not None:
            target.mux(voice.encode())
    return path
