"""Where mixtures come from: the bundled pack, a generated corpus, a manifest, or a folder of somebody's data.

A manifest is a .csv or .jsonl with a line for each mixture, or for each voice:

    mixture   sound of all voices together; without it, the voices are mixed on the fly
    clean     sound of each voice: `a.wav|b.wav` in csv, a list in jsonl
    video     for each voice its film, or its mouths as .npz or .npy; empty where there is none
    fps       of .npz and .npy (default 25)
    voice     who speaks, for each voice (default: the sound's folder and name)
    split     train, valid or test; without it, voices or mixtures are dealt out 8 : 1 : 1

Paths are relative to the manifest and may lead out of its folder, to wherever the data lies: a manifest may name what
whoever starts the run may read, and so is taken from people who may as much. Sound is 16 kHz mono. A folder is one of

    a corpus made by `python -m workloads.av_separation.speech`
    wav16k/min/{tr,cv,tt}/{mix,s1,s2,…}/*.wav and mouths/*.npz    LRS2-, LRS3- and VoxCeleb2-2Mix as CTCNet's authors
        {tr,cv,tt}/{mix,s1,s2}.json                               lay them out, or their lists of it
    films of one speaking face each, in folders by speaker or not, below train/, valid/ and test/ or not; where the
        faces are known already, NAME.json beside NAME.mp4 says where, as mouths.py tells

The faces of films are looked for anew in each run, unless `python -m workloads.av_separation.prepare` has done so once.

Mixtures that are given are taken as they are: levels, noise and rooms are drawn only for those that are made here.

Every source is a pure function of an example's number, so a resumed training goes on exactly where it was: the batch of
step s holds the examples s * batch … s * batch + batch - 1.
"""

import csv
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from workloads.av_separation.mixing import (
    FPS,
    SAMPLES_A_FRAME,
    Clip,
    Example,
    Floats,
    Mixer,
    Mixing,
    decibels,
    hide,
    varied,
)
from workloads.av_separation.recordings import FILMS, Kept, Recording, length_of, read_sound, recording
from workloads.av_separation.speech import corpus
from workloads.contract import Failure, RunFailed

__all__ = ["Batch", "Example", "Source", "batch_at", "batches", "fingerprint_of", "open_source"]

SPLITS = ("train", "valid", "test")
PACK = Path(__file__).parent / "speech" / "pack"

_NAMES = {"train": ("train", "tr"), "valid": ("valid", "val", "cv"), "test": ("test", "tt")}
_FOLDERS = {"train": ("train", "pretrain", "trainval", "dev"), "valid": ("valid", "val"), "test": ("test",)}  # of films
_COLUMNS = frozenset({"mixture", "clean", "video", "fps", "voice", "split"})
_MOST_MANIFEST_BYTES = 256 * 1024**2
_HASHED_BYTES = 1024**3  # of contents; of more data than that only names and sizes are hashed
_LEVEL = re.compile(r"(?P<stem>.+?)_-?\d+\.\d+(e-?\d+)?(_|$)")  # of a mixture's name: NAME_DECIBELS_NAME_DECIBELS


class Source(Protocol):
    def example(self, index: int) -> Example:
        """The same index gives the same example, in any process. Raises RunFailed."""
        ...


def open_source(
    spec: str,
    *,
    split: str,
    seconds: float = 2.0,
    speakers: int = 2,
    seed: int = 0,
    snr_db: tuple[float, float] = (-5.0, 5.0),
    noise: float = 0.0,
    reverb: float = 0.0,
    same_voice: float = 0.0,
    missing: float = 0.0,
    vary: bool | None = None,
) -> Source:
    """`spec` is "pack", "people" (the pack's recordings of people, who have no picture), or a path. `split` is train,
    valid or test. The shares are explained at Mixing; `vary` is on for training unless said. Raises RunFailed."""
    if split not in SPLITS:
        raise RunFailed(Failure.BAD_SETTING, f"split is {split!r}: say one of {', '.join(SPLITS)}")
    if snr_db[0] > snr_db[1]:
        raise RunFailed(Failure.BAD_SETTING, f"snr_low is {snr_db[0]:g}, above snr_high, which is {snr_db[1]:g}")
    mixing = Mixing(
        seconds=seconds,
        speakers=speakers,
        seed=seed,
        snr_db=snr_db,
        noise=noise,
        reverb=reverb,
        missing=missing,
        same_voice=float(same_voice),
        vary=split == "train" if vary is None else vary,
    )
    if spec in ("pack", "people"):
        return Mixer(_corpus(PACK, split if spec == "pack" else spec, 0), mixing)
    path = Path(spec)
    if corpus.is_corpus(path):
        return Mixer(_corpus(path, split, (path / corpus.MANIFEST).stat().st_mtime_ns), mixing)
    given, clips = _read(path, split)
    if given:
        wrong = next((one for one in given if len(one.voices) != speakers), None)
        if wrong is not None:
            what = f"{wrong.where}: a mixture of {len(wrong.voices)} voices, where {speakers} are asked for"
            raise RunFailed(Failure.BAD_SETTING, f"{what}: set speakers, or leave it out")
        return Given(given, mixing, split == "train")
    return Mixer(clips, mixing)


@lru_cache(8)  # the stages of a curriculum share what is in memory
def _corpus(folder: Path, split: str, changed_ns: int) -> Sequence[Clip]:  # noqa: ARG001 - a corpus made anew is another
    return corpus.clips(folder, split)


# --- mixtures that are given -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GivenMixture:
    sound: Path
    voices: tuple[Recording, ...]
    frames: int
    where: str


@dataclass(frozen=True)
class Given:
    """A source of mixtures that lie in files: to train with, in another order each time round and from anywhere in
    them; else in their order, so many seconds from their middle."""

    mixtures: Sequence[GivenMixture]
    mixing: Mixing
    shuffled: bool

    def example(self, index: int) -> Example:
        how, frames = self.mixing, self.mixing.frames
        rng = np.random.default_rng([how.seed, index])
        one = self.mixtures[self._which(index)]
        spare = max(0, one.frames - frames)
        first = int(rng.integers(spare + 1)) if self.shuffled else spare // 2
        taken = min(frames, one.frames)
        rest = frames - taken
        silence, still = (0, rest * SAMPLES_A_FRAME), (0, rest)
        length = taken * SAMPLES_A_FRAME
        mixture = np.pad(read_sound(one.sound, first * SAMPLES_A_FRAME, length, one.where), silence)
        clean = np.stack([np.pad(voice.audio(first, taken), silence) for voice in one.voices])
        drawn = [np.pad(voice.mouths(first, taken), (still, (0, 0), (0, 0))) for voice in one.voices]
        mouths = np.stack(drawn).astype(np.float32) * np.float32(1 / 255)
        seen = np.stack([np.pad(voice.seen(first, taken), still) for voice in one.voices])
        for speaker in range(len(one.voices)):
            if how.vary:
                mouths[speaker] = varied(mouths[speaker], rng)
            if rng.random() < how.missing:
                hide(seen[speaker], rng)
        mouths *= seen[:, :, None, None]
        return Example(mixture, mouths, seen, clean, decibels(clean[0], mixture - clean[0]))

    def _which(self, index: int) -> int:
        number = len(self.mixtures)
        if not self.shuffled:
            return index % number
        turn, place = divmod(index, number)
        return int(np.random.default_rng([self.mixing.seed, 1, turn]).permutation(number)[place])


# --- manifests and folders -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A line of a manifest, or what a folder's layout amounts to."""

    where: str
    clean: tuple[Path, ...]
    video: tuple[Path | None, ...]
    voice: tuple[str, ...]
    mixture: Path | None = None
    fps: float = FPS
    split: str = ""


def _read(path: Path, split: str) -> tuple[list[GivenMixture], list[Recording]]:
    """The mixtures of a part of the data, or its voices to mix."""
    rows = _part(path, _rows(path), split)
    given = [row for row in rows if row.mixture is not None]
    if given and len(given) < len(rows):
        odd = next(row for row in rows if row.mixture is None)
        raise RunFailed(
            Failure.DATA_MALFORMED, f"{odd.where}: no mixture, though other lines have one: give all or none"
        )
    kept = Kept()
    made = [_mixture(row, kept) for row in given]
    clips = [] if given else [clip for row in rows for clip in _voices(row, kept)]
    return made, clips


def _mixture(row: Row, kept: Kept) -> GivenMixture:
    assert row.mixture is not None
    voices = _voices(row, kept)
    frames = length_of(row.mixture, row.where) // SAMPLES_A_FRAME
    for voice in voices:
        if abs(voice.frames - frames) > 1:
            what = f"{row.where}: {voice.sound} lasts {voice.frames / FPS:.2f} s and its mixture {frames / FPS:.2f} s"
            raise RunFailed(Failure.DATA_MALFORMED, f"{what}: they have to be as long; mix it anew or leave it out")
    return GivenMixture(row.mixture, voices, min(frames, *(voice.frames for voice in voices)), row.where)


def _voices(row: Row, kept: Kept) -> tuple[Recording, ...]:
    told = zip(row.clean, row.video, row.voice, strict=True)
    return tuple(
        recording(clean, video, voice=voice, fps=row.fps, where=row.where, kept=kept) for clean, video, voice in told
    )


def _rows(path: Path) -> list[Row]:
    if path.is_file() and path.suffix.lower() in (".csv", ".jsonl"):
        return _manifest(path)
    if path.is_dir():
        for look in (_lists, _mixtures, films):
            found = look(path)
            if found:
                return found
        what = (
            f"{path} holds no manifest, no mixtures and no films that are known: see the layouts in the documentation"
        )
        raise RunFailed(Failure.DATA_MISSING, what)
    what = f"{path} is no data: say pack, a manifest (.csv or .jsonl), or a folder that is there"
    raise RunFailed(Failure.DATA_MISSING, what)


def _part(path: Path, rows: list[Row], split: str) -> list[Row]:
    """The rows of one part: as they say, or dealt out by a hash of the first voice, so that nobody is in two parts."""
    if any(row.split for row in rows):
        found = [row for row in rows if row.split == split]
        if not found:
            raise RunFailed(Failure.DATA_MISSING, f"{path} has nothing of the part {split!r}: add some, or say another")
        return found
    names = sorted({row.voice[0] for row in rows}, key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) < 3:
        what = (
            f"{path} has {len(names)} voice(s), too few to hold any out: say in a column `split` what each line is for"
        )
        raise RunFailed(Failure.DATA_MISSING, what)
    tenth = max(2 if len(names) >= 6 else 1, len(names) // 10)
    parts = {"test": names[:tenth], "valid": names[tenth : 2 * tenth], "train": names[2 * tenth :]}
    mine = frozenset(parts[split])
    return [row for row in rows if row.voice[0] in mine]


def _manifest(path: Path) -> list[Row]:
    if path.stat().st_size > _MOST_MANIFEST_BYTES:
        raise RunFailed(Failure.DATA_MALFORMED, f"{path} is larger than 256 MiB: split it")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunFailed(Failure.DATA_MALFORMED, f"{path} is not in UTF-8 ({error}): save it so") from error
    lines = _csv(path, text) if path.suffix.lower() == ".csv" else _jsonl(path, text)
    rows = [_row(path.parent, f"{path}, line {number}", told) for number, told in lines]
    if not rows:
        raise RunFailed(Failure.DATA_MISSING, f"{path} has no lines: a manifest has one for each mixture or voice")
    return rows


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines())
    try:
        names = reader.fieldnames or ()
    except csv.Error as error:
        raise RunFailed(Failure.DATA_MALFORMED, f"{path}, line 1: no csv ({error})") from error
    for name in names:
        if name not in _COLUMNS:
            known = ", ".join(sorted(_COLUMNS))
            raise RunFailed(Failure.DATA_MALFORMED, f"{path}, line 1: no column is called {name!r}: there are {known}")
    try:
        for told in reader:
            if None in told or None in told.values():
                what = f"{path}, line {reader.line_num}: as many fields as in line 1 are needed"
                raise RunFailed(Failure.DATA_MALFORMED, what)
            lists = {name: told[name].split("|") for name in ("clean", "video", "voice") if told.get(name)}
            yield reader.line_num, {**told, **lists}
    except csv.Error as error:
        raise RunFailed(Failure.DATA_MALFORMED, f"{path}, line {reader.line_num}: no csv ({error})") from error


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RunFailed(Failure.DATA_MALFORMED, f"{path}, line {number}: no JSON ({error})") from error
        if not isinstance(told, dict) or not told.keys() <= _COLUMNS:
            what = f"{path}, line {number}: an object is needed, of {', '.join(sorted(_COLUMNS))}"
            raise RunFailed(Failure.DATA_MALFORMED, what)
        yield number, told


def _row(folder: Path, where: str, told: dict[str, Any]) -> Row:
    clean = _texts(where, "clean", told.get("clean"))
    if not clean or not all(clean):
        raise RunFailed(Failure.DATA_MALFORMED, f"{where}: `clean` names no sound: it is what is learned")
    video = _texts(where, "video", told.get("video")) or [""] * len(clean)
    voice = _texts(where, "voice", told.get("voice")) or [Path(name).with_suffix("").as_posix() for name in clean]
    for name, values in (("video", video), ("voice", voice)):
        if len(values) != len(clean):
            what = f"{where}: {len(clean)} in `clean` and {len(values)} in `{name}`"
            raise RunFailed(Failure.DATA_MALFORMED, f"{what}: give one for each voice, empty where there is none")
    try:
        fps = float(told.get("fps") or FPS)
    except (TypeError, ValueError):
        fps = math.nan
    if not 1 <= fps <= 1000:
        raise RunFailed(
            Failure.DATA_MALFORMED, f"{where}: fps is {told.get('fps')!r}: say pictures a second, 1 to 1000"
        )
    split, mixture = told.get("split") or "", told.get("mixture") or ""
    if split not in ("", *SPLITS) or not isinstance(mixture, str):
        what = f"{where}: split is {split!r} and mixture {mixture!r}: say {', '.join(SPLITS)} or nothing, and a path"
        raise RunFailed(Failure.DATA_MALFORMED, what)
    return Row(
        where,
        tuple(folder / name for name in clean),
        tuple(folder / name if name else None for name in video),
        tuple(voice),
        folder / mixture if mixture else None,
        fps,
        split,
    )


def _texts(where: str, name: str, told: Any) -> list[str]:
    listed = [told] if isinstance(told, str) else told
    if listed is None or listed == [""]:
        return []
    if not isinstance(listed, list) or not all(isinstance(one, str | None) for one in listed):
        raise RunFailed(Failure.DATA_MALFORMED, f"{where}: `{name}` is {told!r}: give a path or a list of them")
    return [one or "" for one in listed]


def _lists(folder: Path) -> list[Row]:
    """{tr,cv,tt}/mix.json, s1.json, …: [[sound, samples], …] and [[sound, mouths, samples], …]."""
    rows = []
    for split, names in _NAMES.items():
        for name in names:
            part = folder / name
            if not (part / "mix.json").is_file():
                continue
            mixes = _list(part / "mix.json", 2)
            voices = [_list(path, 3) for path in sorted(part.glob("s[0-9].json"))]
            if not voices or any(len(voice) != len(mixes) for voice in voices):
                raise RunFailed(
                    Failure.DATA_MALFORMED, f"{part}: s1.json, s2.json … have not as many entries as mix.json"
                )
            for number, (mix, *told) in enumerate(zip(mixes, *voices, strict=True), 1):
                clean = tuple(part / str(one[0]) for one in told)  # an absolute path stays what it is
                video = tuple(part / str(one[1]) for one in told)
                where = f"{part / 'mix.json'}, entry {number}"
                named = tuple(path.stem for path in video)
                rows.append(Row(where, clean, video, named, part / str(mix[0]), split=split))
    return rows


def _list(path: Path, fields: int) -> list[list[Any]]:
    if path.stat().st_size > _MOST_MANIFEST_BYTES:
        raise RunFailed(Failure.DATA_MALFORMED, f"{path} is larger than 256 MiB: split it")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunFailed(Failure.DATA_MALFORMED, f"{path} is no JSON ({error})") from error
    if not isinstance(told, list) or not all(isinstance(one, list) and len(one) == fields for one in told):
        raise RunFailed(
            Failure.DATA_MALFORMED, f"{path} is no list of lists of {fields}, as CTCNet's preprocessing makes"
        )
    return told


def _mixtures(folder: Path) -> list[Row]:
    """{tr,cv,tt}/{mix,s1,…}/NAME.wav, below wav16k/min or at once, and mouths/STEM.npz beside it. NAME is made of the
    stem and level of each voice."""
    sounds = next((found for found in (folder / "wav16k" / "min", folder) if any(found.glob("*/mix"))), None)
    if sounds is None:
        return []
    pictures = next((found for found in (folder / "mouths", folder.parent / "mouths") if found.is_dir()), None)
    rows = []
    for split, names in _NAMES.items():
        for name in names:
            part = sounds / name
            for mix in sorted((part / "mix").glob("*.wav")):
                clean = tuple(path / mix.name for path in sorted(part.glob("s[0-9]")))
                stems = [found["stem"] for found in _LEVEL.finditer(mix.stem)]
                if not clean:
                    raise RunFailed(Failure.DATA_MISSING, f"{part} has mixtures and no s1, s2 … beside them")
                if len(stems) < len(clean):
                    what = f"{mix}: its name tells not whose voices it has: NAME_DECIBELS_NAME_DECIBELS.wav is known"
                    raise RunFailed(Failure.DATA_MALFORMED, f"{what}; or write a manifest")
                stems = stems[: len(clean)]
                video = tuple(None if pictures is None else pictures / f"{stem}.npz" for stem in stems)
                rows.append(Row(str(mix), clean, video, tuple(stems), mix, split=split))
    return rows


def films(folder: Path) -> list[Row]:
    """Films, and who speaks in each: the first folder that it lies in, or itself, where all lie in one."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in FILMS and path.is_file())
    split_of = {name: split for split, names in _FOLDERS.items() for name in names}
    rows = []
    for path in found:
        place = list(path.relative_to(folder).parts[:-1])
        split = split_of.get(place[0], "") if place else ""
        speaker = [name for name in place[bool(split) :] if name != "mp4"]  # VoxCeleb2: dev/mp4/PERSON/FILM/CLIP.mp4
        voice = speaker[0] if speaker else path.stem
        rows.append(Row(str(path), (path,), (path,), (voice,), split=split))
    return rows


# --- what it was -----------------------------------------------------------------------------------------------------


def fingerprint_of(spec: str) -> str:
    """SHA-256 of the data's names, sizes and contents; of more than 1 GiB, of names and sizes alone, and then it begins
    with "sizes-". Raises RunFailed."""
    if spec in ("pack", "people"):
        return corpus.fingerprint(PACK)
    path = Path(spec)
    if corpus.is_corpus(path):
        return corpus.fingerprint(path)
    rows = _rows(path)
    told = {file for row in rows for file in (row.mixture, *row.clean, *row.video) if file is not None}
    files = sorted(file for file in {*told, *([path] if path.is_file() else [])} if file.is_file())
    whole = sum(file.stat().st_size for file in files) <= _HASHED_BYTES
    base = path if path.is_dir() else path.parent
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(base).as_posix() if file.is_relative_to(base) else file.as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        if whole:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest() if whole else f"sizes-{digest.hexdigest()}"


# --- batches ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples, stacked: `mixture` (batch, samples), `mouths` (batch, speakers, frames, 48, 48), `seen` (batch,
    speakers, frames), `clean` (batch, speakers, samples), `snr_db` (batch,)."""

    mixture: Floats
    mouths: Floats
    seen: Floats
    clean: Floats
    snr_db: Floats


def batch_at(source: Source, first: int, batch: int) -> Batch:
    """The examples first … first + batch - 1."""
    examples = [source.example(first + number) for number in range(batch)]
    return Batch(
        np.stack([example.mixture for example in examples]),
        np.stack([example.mouths for example in examples]),
        np.stack([example.seen for example in examples]),
        np.stack([example.clean for example in examples]),
        np.asarray([example.snr_db for example in examples], np.float32),
    )


def batches(source: Source, batch: int, start: int = 0, *, step: int | None = None) -> Iterator[Batch]:
    """Batches without end, from example `start` on; the next one begins `step` examples later (default: `batch`; more,
    where several processes share the stream)."""
    for first in itertools.count(start, step or batch):
        yield batch_at(source, first, batch)
