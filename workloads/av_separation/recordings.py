"""Sound and mouths in somebody's files, as clips to mix or as voices of a mixture that is given.

What is wrong with a sound ends the run and says which file and what to do. Where only the picture is missing or broken,
the voice goes on unseen (`seen` is 0).
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from workloads.av_separation.mixing import FPS, RATE, SAMPLES_A_FRAME, SIZE, Floats
from workloads.contract import Failure, RunFailed

FILMS = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg"})
PICTURES = frozenset({".npz", ".npy"})
MOST_S = 4 * 3600.0
_MOST_BYTES = 2 * 1024**3  # of the mouths of one file, unpacked
_KEY = "data"  # of the array in an .npz, as LRS2's lip readers name it

Bytes = NDArray[np.uint8]


@dataclass
class Kept:
    """What stays in memory, up to a number of bytes; what is beyond is read again each time."""

    most: int = 1024**3
    used: int = 0

    def takes(self, size: int) -> bool:
        if self.used + size > self.most:
            return False
        self.used += size
        return True


@dataclass
class Recording:
    """One voice: `sound` is a sound file at 16 kHz or a film, `picture` mouths (.npz, .npy), a film, or nothing. `fps`
    is the rate of an .npz or .npy; a film knows its own. `where` is named in errors: a line of a manifest."""

    sound: Path
    picture: Path | None
    voice: str
    frames: int
    fps: float = FPS
    where: str = ""
    kept: Kept = field(default_factory=Kept, repr=False)
    _audio: Floats | None = field(default=None, repr=False)
    _mouths: tuple[Bytes, Floats] | None = field(default=None, repr=False)

    def audio(self, first: int, frames: int) -> Floats:
        start, length = first * SAMPLES_A_FRAME, frames * SAMPLES_A_FRAME
        if self._audio is not None:
            return self._audio[start : start + length]
        if self.sound.suffix.lower() not in FILMS:
            return read_sound(self.sound, start, length, self.where)
        whole = _film_sound(self.sound)
        if self.kept.takes(whole.nbytes):
            self._audio = whole
        some = whole[start : start + length]
        return np.pad(some, (0, length - len(some)))

    def mouths(self, first: int, frames: int) -> Bytes:
        some = self._seen()[0][first : first + frames]
        return np.pad(some, ((0, frames - len(some)), (0, 0), (0, 0)))

    def seen(self, first: int, frames: int) -> Floats:
        some = self._seen()[1][first : first + frames]
        return np.pad(some, (0, frames - len(some)))

    def _seen(self) -> tuple[Bytes, Floats]:
        """The mouths and where there are any, of all frames that have a picture."""
        if self._mouths is not None:
            return self._mouths
        found = mouths_in(self.picture, self.fps)
        if self.kept.takes(found[0].nbytes):
            self._mouths = found
        return found


def recording(
    sound: Path, picture: Path | None, *, voice: str, fps: float = FPS, where: str = "", kept: Kept | None = None
) -> Recording:
    """Raises RunFailed where the sound cannot be used."""
    frames = length_of(sound, where) // SAMPLES_A_FRAME
    return Recording(sound, picture, voice, frames, fps, where, kept or Kept())


# --- sound -----------------------------------------------------------------------------------------------------------


def length_of(path: Path, where: str = "") -> int:
    """Samples at 16 kHz. Raises RunFailed where it is missing, empty, huge, or not 16 kHz mono."""
    named = f"{where}: {path}" if where else str(path)
    if not path.is_file():
        raise RunFailed(Failure.DATA_MISSING, f"{named} is not there: correct its path, or leave it out")
    if path.suffix.lower() in FILMS:
        from workloads.av_separation import media  # PyAV is needed for films alone

        samples = round(media.describe(path).sound_s * RATE)
    else:
        try:
            told = soundfile.info(str(path))
        except (OSError, soundfile.LibsndfileError) as error:
            what = f"{named} is no sound that can be read ({error}): convert it to WAV or FLAC, or leave it out"
            raise RunFailed(Failure.DATA_MALFORMED, what) from error
        if told.samplerate != RATE or told.channels != 1:
            what = f"{named} has {told.samplerate} Hz and {told.channels} channels; needed are {RATE} Hz and one"
            raise RunFailed(Failure.DATA_MALFORMED, f"{what}: convert it, as `ffmpeg -i OLD -ar {RATE} -ac 1 NEW` does")
        samples = told.frames
    if samples < SAMPLES_A_FRAME:
        raise RunFailed(Failure.DATA_MALFORMED, f"{named} has no sound, or less than 0.04 s of it: leave it out")
    if samples > MOST_S * RATE:
        raise RunFailed(Failure.DATA_MALFORMED, f"{named} is longer than {MOST_S / 3600:.0f} hours: cut it into pieces")
    return samples


def read_sound(path: Path, start: int, length: int, where: str = "") -> Floats:
    """(length,), silent where the file has ended. Raises RunFailed."""
    named = f"{where}: {path}" if where else str(path)
    try:
        read, rate = soundfile.read(str(path), frames=length, start=start, dtype="float32", fill_value=0.0)
    except (OSError, RuntimeError) as error:  # a file that is shorter than it was: libsndfile says RuntimeError
        raise RunFailed(Failure.DATA_MALFORMED, f"{named} broke off while it was read ({error})") from error
    if rate != RATE or read.shape != (length,):
        raise RunFailed(Failure.DATA_MALFORMED, f"{named} is no longer the file it was when the data was opened")
    if not np.isfinite(read).all():
        raise RunFailed(Failure.DATA_MALFORMED, f"{named} has samples that are no numbers: repair it or leave it out")
    sound: Floats = read
    return sound


def _film_sound(path: Path) -> Floats:
    from workloads.av_separation import media

    return media.read_audio(path)


# --- mouths ----------------------------------------------------------------------------------------------------------


def mouths_in(picture: Path | None, fps: float = FPS) -> tuple[Bytes, Floats]:
    """(frames, 48, 48) and (frames,) at 25 a second; none where there is no picture that can be used."""
    if picture is None or not picture.is_file():
        return _nothing()
    if picture.suffix.lower() in PICTURES:
        try:
            pictures, seen = _arrays(picture)
            return at_25(small(pictures), seen, fps)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return _nothing()
    try:
        return _mouths_of_film(picture)
    except RunFailed as failed:
        if failed.kind not in (Failure.DATA_MALFORMED, Failure.DATA_MISSING):
            raise
        return _nothing()


def _mouths_of_film(film: Path) -> tuple[Bytes, Floats]:
    """Of the face that is seen most: (frames, 48, 48) and (frames,). Faces are not looked for where a .json beside the
    film tells where they are. Raises RunFailed."""
    from workloads.av_separation import mouths

    known = film.with_suffix(".json")
    tracks = mouths.tracks_of(film, landmarks=known if known.is_file() else None, speakers=1)
    return (np.asarray(tracks[0].pictures), tracks[0].seen) if tracks else _nothing()


def _nothing() -> tuple[Bytes, Floats]:
    return np.zeros((0, SIZE, SIZE), np.uint8), np.zeros(0, np.float32)


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """The array of an .npy, or "data" of an .npz, and "seen" where there is one. Raises ValueError where it is pickled
    or huge, KeyError where there is none."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            _check(file, (3, 4))
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped, None
    with zipfile.ZipFile(path) as archive:
        pictures = _member(archive, f"{_KEY}.npy", (3, 4))
        seen = _member(archive, "seen.npy", (1,)) if "seen.npy" in archive.namelist() else None
    return pictures, seen


def _member(archive: zipfile.ZipFile, name: str, axes: tuple[int, ...]) -> NDArray[Any]:
    with archive.open(name) as file:
        _check(file, axes)
    with archive.open(name) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _check(file: IO[bytes], axes: tuple[int, ...]) -> None:
    version = np.lib.format.read_magic(file)
    read: Callable[..., Any] = (
        np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if dtype.hasobject or len(shape) not in axes or 0 in shape:
        raise ValueError(f"no pictures: {shape} of {dtype}")
    if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > _MOST_BYTES:
        raise ValueError("huge")


def small(pictures: NDArray[Any]) -> Bytes:
    """(frames, height, width[, 3]), 0…255 or 0…1 → (frames, 48, 48), 0…255.

    Pictures of 64 px or more are taken for the crops of lip readers (96 px for LRS2, LRS3 and VoxCeleb2), in which a
    mouth is half as wide as its picture: of them the middle three quarters are taken, so that it is two thirds.
    """
    if pictures.ndim == 4:
        pictures = pictures[..., :3] @ np.asarray([0.299, 0.587, 0.114], np.float32)
    if pictures.dtype == np.uint8 and pictures.shape[1:] == (SIZE, SIZE):
        return np.asarray(pictures)
    grey = pictures.astype(np.float32)
    if not np.isfinite(grey).all():
        raise ValueError("no numbers")
    if pictures.dtype != np.uint8 and float(grey.max()) <= 1:
        grey *= 255
    height, width = grey.shape[1:]
    side = min(height, width)
    side = round(side * 0.75) if side >= 64 else side
    top, left = (height - side) // 2, (width - side) // 2
    weights = _areas(side)
    smaller = weights @ grey[:, top : top + side, left : left + side] @ weights.T
    made: Bytes = np.clip(smaller + 0.5, 0, 255).astype(np.uint8)
    return made


def _areas(side: int) -> Floats:
    """(48, side): each of 48 px is the mean of the part of the line that it covers."""
    edges = np.linspace(0, side, SIZE + 1)
    pixels = np.arange(side)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights: Floats = (covered.clip(0) * (SIZE / side)).astype(np.float32)
    return weights


def at_25(pictures: Bytes, seen: NDArray[Any] | None, fps: float) -> tuple[Bytes, Floats]:
    """Each moment's nearest picture, at 25 a second, and whether it is seen (all are, unless told). Raises ValueError
    where the two are not as long."""
    there = np.ones(len(pictures), np.float32) if seen is None else (np.asarray(seen) > 0).astype(np.float32)
    if len(there) != len(pictures):
        raise ValueError("as many pictures as `seen` are needed")
    if fps != FPS:
        frames = max(1, round(len(pictures) * FPS / fps))
        nearest = ((np.arange(frames) + 0.5) * fps / FPS).astype(np.int64).clip(0, len(pictures) - 1)
        pictures, there = pictures[nearest], there[nearest]
    return pictures * there[:, None, None].astype(np.uint8), there
