"""The picture of sounds before and after shows them where they are."""

import io
import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.workloads.films import speech
from workloads.av_separation import picture
from workloads.av_separation.media import RATE


def tone(frequency: float, seconds: float = 1.0) -> Any:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def read(content: bytes) -> Any:
    """What a reader of PNGs that is not ours makes of it."""
    with av.open(io.BytesIO(content)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_a_png_is_read_by_others_as_it_was_drawn() -> None:
    shares = np.linspace(0, 1, 12).reshape(3, 4)
    seen = read(picture.png(shares))
    assert seen.shape == (3, 4, 3)
    assert seen[0, 0].tolist() == [68, 1, 84]  # the ends of viridis
    assert seen[2, 3].tolist() == [253, 231, 37]


def test_more_is_brighter_to_the_colour_blind_too() -> None:
    seen = read(picture.png(np.linspace(0, 1, 256)[None])).astype(float)
    grey = seen @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(grey[0]) > -0.5).all()
    assert grey[0, -1] - grey[0, 0] > 180


def test_a_tone_is_bright_at_its_frequency_and_time() -> None:
    sound = np.concatenate([np.zeros(RATE, np.float32), tone(2000)])
    power = picture.spectrogram(sound, columns=100)
    assert power.shape == (257, 100)
    assert (power[:, 55:95].argmax(axis=0) == 2000 * picture.WINDOW // RATE).all()
    assert power[:, :45].max() < 1e-6 * power[:, 55:95].max()


def test_a_long_sound_costs_no_more_columns_and_a_short_one_none_too_few() -> None:
    assert picture.spectrogram(speech(20.0), columns=20).shape == (257, 20)
    assert np.isfinite(picture.spectrogram(np.zeros(3, np.float32), columns=20)).all()


def test_the_picture_holds_a_titled_spectrogram_of_each_sound(tmp_path: Path) -> None:
    sounds = [("before: <film> & sound", tone(1000) + tone(3000)), ("after: face-1", tone(1000))]
    picture.write_spectrograms(tmp_path / "a.svg", sounds)
    text = (tmp_path / "a.svg").read_text()
    tree = ET.fromstring(text)
    said = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"before: <film> & sound", "after: face-1", "time, s", "frequency, kHz", "0 dB", "8"} <= set(said)
    assert "prefers-color-scheme:dark" in text
    images = [read(b64decode(found)).astype(float).sum(axis=2) for found in re.findall(r"base64,([^\"]+)", text)]
    assert len(images) == 3  # the scale of levels is one
    rows = [round(256 * (1 - frequency / 8000)) for frequency in (1000, 3000)]
    before, after = ([image[row].mean() for row in rows] for image in images[:2])
    assert min(before) > 400  # both tones
    assert after[0] > 400 > 300 > after[1]  # one


def test_silence_can_be_drawn(tmp_path: Path) -> None:
    picture.write_spectrograms(tmp_path / "a.svg", [("nothing", np.zeros(RATE, np.float32)), ("less", tone(1)[:0])])
    assert ET.parse(tmp_path / "a.svg")


def test_long_films_are_told_in_minutes(tmp_path: Path) -> None:
    picture.write_spectrograms(tmp_path / "a.svg", [("long", np.zeros(RATE * 240, np.float32))])
    text = (tmp_path / "a.svg").read_text()
    assert "time, min:s" in text
    assert ">3:20<" in text
