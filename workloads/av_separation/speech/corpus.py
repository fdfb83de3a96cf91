"""A folder of generated speech: how it is made, and how it is read.

    DIR/manifest.jsonl     one line a clip: {"clip", "voice", "split", "frames", "first", "text"}
    DIR/mouths.npy         (frames of all clips, 5) uint8: the mouths' shapes; a clip's begin at its `first`
    DIR/{train,valid,test}/*.opus, DIR/people/*.flac    16 kHz mono

A clip without `first` has no mouth. Its length in samples is `frames` * 640.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from workloads.av_separation.mixing import FPS, RATE, SAMPLES_A_FRAME, SIZE, Floats
from workloads.av_separation.recordings import Kept
from workloads.av_separation.speech.render import Look, render
from workloads.av_separation.speech.sentences import sentence
from workloads.av_separation.speech.visemes import SHAPE, shapes
from workloads.av_separation.speech.voices import Engines, Voice
from workloads.contract import Failure, RunFailed

MANIFEST, MOUTHS = "manifest.jsonl", "mouths.npy"
_CLIP_S = 5.0  # sentences are joined until they are about so long
_OPUS = 0.9  # soundfile's compression level, 0 the best to 1 the smallest: 31 kbit/s, 25 dB over what is lost

# --- making ----------------------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """A clip: its row of the manifest, and its mouth's shapes."""

    row: dict[str, Any]
    shapes: NDArray[np.uint8]


def speak_clip(engines: Engines, voice: Voice, rng: np.random.Generator) -> tuple[Floats, NDArray[np.uint8], str]:
    """Some sentences of one voice: (frames * 640,), (frames, 5) and the text. Raises NoVoice."""
    audio: list[Floats] = []
    mouths: list[NDArray[np.uint8]] = []
    texts: list[str] = []
    frames = 0
    while frames < _CLIP_S * FPS:
        texts.append(sentence(rng))
        spoken = engines.speak(voice, texts[-1])
        length = -(-len(spoken.audio) // SAMPLES_A_FRAME)
        audio.append(np.pad(spoken.audio, (0, length * SAMPLES_A_FRAME - len(spoken.audio))))
        mouths.append(shapes(spoken.phones, length, ipa=spoken.ipa))
        frames += length
    joined = np.concatenate(audio)
    level = float(np.sqrt(np.mean(joined**2)))
    joined *= min(0.08 / max(level, 1e-6), 0.95 / max(float(np.abs(joined).max()), 1e-6))
    return joined, np.concatenate(mouths), ". ".join(texts)


def _make(told: tuple[Path, Engines, str, str, int, int]) -> Made:
    folder, engines, split, name, number, seed = told
    rng = np.random.default_rng([seed, zlib.crc32(f"{split}/{name}".encode()), number])
    audio, mouths, text = speak_clip(engines, Voice.named(name), rng)
    stem = "".join(letter if letter.isalnum() else "-" for letter in name)
    clip = f"{split}/{stem}-{number:05d}.opus"
    write_audio(folder / clip, audio)
    return Made({"clip": clip, "voice": name, "split": split, "frames": len(mouths), "text": text}, mouths)


def write_audio(path: Path, audio: Floats) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".opus":
        soundfile.write(path, audio, RATE, format="OGG", subtype="OPUS", compression_level=_OPUS)
    else:
        soundfile.write(path, audio, RATE, format="FLAC", subtype="PCM_16")


def make(
    folder: Path,
    engines: Engines,
    plan: Sequence[tuple[str, Sequence[str], float]],
    *,
    seed: int,
    jobs: int,
) -> Iterator[Made]:
    """Speaks `plan`: (split, voices, minutes) each. Yields every clip made; the manifest is written at the end.
    The same seed speaks the same, however many jobs; but
    espeak-ng varies a little with what its process has said before. Raises NoVoice."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    drawn: list[NDArray[np.uint8]] = []
    first = 0
    with ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        run = map if pool is None else pool.map
        for split, voices, minutes in plan:
            frames, number = 0, 0
            while frames < minutes * 60 * FPS:
                for clip in run(_make, [(folder, engines, split, voice, number, seed) for voice in voices]):
                    rows.append({**clip.row, "first": first})
                    drawn.append(clip.shapes)
                    first += len(clip.shapes)
                    frames += len(clip.shapes)
                    yield clip
                number += 1
    np.save(folder / MOUTHS, np.concatenate(drawn))
    write_manifest(folder, rows)


def add_people(folder: Path, files: Iterable[tuple[Path, str, str]]) -> None:
    """Adds recordings of people, which have no mouths: (sound file at 16 kHz, who speaks, what)."""
    rows = list(_rows(folder))
    for path, voice, text in files:
        audio, rate = soundfile.read(path, dtype="float32")
        if rate != RATE or audio.ndim != 1:
            raise RunFailed(Failure.DATA_MALFORMED, f"{path} is not 16 kHz mono: convert it first")
        frames = len(audio) // SAMPLES_A_FRAME
        clip = f"people/{path.stem}.flac"
        write_audio(folder / clip, audio[: frames * SAMPLES_A_FRAME])
        rows = [row for row in rows if row["clip"] != clip]
        rows.append({"clip": clip, "voice": voice, "split": "people", "frames": frames, "text": text})
    write_manifest(folder, rows)


def write_manifest(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / MANIFEST).write_text(lines, encoding="utf-8")


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass
class SpokenClip:
    """A clip of a corpus; sound and pictures are read when first asked for. Its face is the same each time."""

    path: Path
    name: str
    voice: str
    frames: int
    text: str
    shapes: NDArray[np.uint8] | None
    kept: Kept = field(repr=False)
    _sound: NDArray[np.int16] | None = field(default=None, repr=False)
    _pictures: NDArray[np.uint8] | None = field(default=None, repr=False)

    def audio(self, first: int, frames: int) -> Floats:
        if self._sound is None:
            read = self._read_sound()
            if self.kept.takes(read.nbytes):
                self._sound = read
        else:
            read = self._sound
        some = read[first * SAMPLES_A_FRAME : (first + frames) * SAMPLES_A_FRAME]
        return some.astype(np.float32) * np.float32(1 / 32768)

    def mouths(self, first: int, frames: int) -> NDArray[np.uint8]:
        if self.shapes is None:
            return np.zeros((frames, SIZE, SIZE), np.uint8)
        if self._pictures is None:
            seed = zlib.crc32(self.name.encode())
            look = Look.drawn_by(np.random.default_rng(seed))
            if not self.kept.takes(len(self.shapes) * SIZE * SIZE):
                return render(self.shapes, look, seed, first, frames)
            self._pictures = render(self.shapes, look, seed)
        return self._pictures[first : first + frames]

    def seen(self, first: int, frames: int) -> Floats:  # noqa: ARG002 - as Clip has it
        return np.full(frames, self.shapes is not None, np.float32)

    def _read_sound(self) -> NDArray[np.int16]:
        try:
            read, rate = soundfile.read(self.path, dtype="int16")
        except (OSError, soundfile.LibsndfileError) as error:
            raise RunFailed(
                Failure.DATA_MALFORMED, f"{self.path} is no sound ({error}): make the corpus anew"
            ) from error
        if rate != RATE or read.shape != (self.frames * SAMPLES_A_FRAME,):
            what = f"{self.path} is not 16 kHz mono of {self.frames} frames, as its manifest says: make the corpus anew"
            raise RunFailed(Failure.DATA_MALFORMED, what)
        sound: NDArray[np.int16] = read
        return sound


def is_corpus(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / MOUTHS).is_file()


def clips(folder: Path, split: str) -> list[SpokenClip]:
    """Raises RunFailed."""
    try:
        mouths: NDArray[np.uint8] = np.load(folder / MOUTHS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RunFailed(Failure.DATA_MALFORMED, f"{folder / MOUTHS} cannot be read ({error})") from error
    if mouths.ndim != 2 or mouths.shape[1] != len(SHAPE) or mouths.dtype != np.uint8:
        raise RunFailed(Failure.DATA_MALFORMED, f"{folder / MOUTHS} holds no shapes of mouths: make the corpus anew")
    kept, found = Kept(), []
    for number, row in enumerate(_rows(folder), 1):
        where = f"{folder / MANIFEST}, line {number}"
        try:
            clip, frames, first = str(row["clip"]), int(row["frames"]), row.get("first")
            if row["split"] != split:
                continue
            told = None if first is None else mouths[int(first) : int(first) + frames]
            voice, text = str(row["voice"]), str(row.get("text", ""))
        except (KeyError, TypeError, ValueError) as error:
            raise RunFailed(Failure.DATA_MALFORMED, f"{where}: {error!r} is missing or no number") from error
        if frames < 1 or (told is not None and len(told) != frames):
            raise RunFailed(Failure.DATA_MALFORMED, f"{where}: frames and first do not fit {MOUTHS}")
        path = folder / clip
        if not path.resolve().is_relative_to(folder.resolve()):
            raise RunFailed(Failure.DATA_MALFORMED, f"{where}: {clip} lies outside of the corpus")
        if not path.is_file():
            raise RunFailed(Failure.DATA_MISSING, f"{where}: there is no {path}: make the corpus anew")
        found.append(SpokenClip(path, clip, voice, frames, text, told, kept))
    if not found:
        raise RunFailed(Failure.DATA_MISSING, f"{folder} has no clips of the part {split!r}")
    return found


def fingerprint(folder: Path) -> str:
    """SHA-256 of the manifest, the mouths, and every clip's name and bytes."""
    digest = hashlib.sha256()
    for path in sorted([folder / MANIFEST, folder / MOUTHS, *(folder / str(row["clip"]) for row in _rows(folder))]):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate((folder / MANIFEST).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RunFailed(Failure.DATA_MALFORMED, f"{folder / MANIFEST}, line {number}: no JSON") from error
        if not isinstance(row, dict):
            raise RunFailed(Failure.DATA_MALFORMED, f"{folder / MANIFEST}, line {number}: no object")
        yield row
