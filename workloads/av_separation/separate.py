"""The verb `separate`: a film in which people talk over each other, and one clean track and one film of each face.

    face-1.wav         that voice alone, 16 kHz, as long as the film's sound
    face-1.mp4         the film's pictures with that voice alone
    spectrograms.svg   before and after

Faces are numbered from left to right. Where a face is not seen, its voice goes by sound alone, and the report says
when. A film without faces, or a sound file, is separated by sound alone into `speakers` voices: voice-1.wav and so on.

The film is read in pieces, and what has been separated waits on disk: memory does not grow with the film.
"""

import contextlib
import errno
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workloads.av_separation import loudness, media, mouths, picture
from workloads.av_separation.config import Separate
from workloads.av_separation.device import settle
from workloads.av_separation.drift import Observations
from workloads.av_separation.media import FPS, HOP, RATE, Floats, Limits, Media
from workloads.av_separation.model import SLOTS, Separator, load
from workloads.av_separation.mouths import Finder, Track
from workloads.av_separation.streaming import Streamer
from workloads.contract import Failure, Measured, Metric, Report, Run, RunFailed, Unavailable

BUNDLED = Path(__file__).with_name("weights") / "tiny.safetensors"
SPAN_S = 0.4  # a face that is away for less is not told of
MOST_SPANS = 50  # that become events
TOLD_SPANS = 5  # that become notes
BATCH_S = 10.0  # of sound in one row for the drift detector
NO_CLEAN = "there are no clean voices to compare with: `evaluate` measures on mixtures whose voices are known"


def run_separate(config: Separate, run: Run, *, finder: Finder | None = None) -> Report:
    """Raises RunFailed for a film that cannot be read, weights that are not there, and voices that nobody counted."""
    if not config.input:
        raise RunFailed(Failure.BAD_SETTING, "input: name the film, or a sound file")
    film = Path(config.input)
    if film.resolve().parent == run.out.resolve():  # what is written could be the film that is read
        raise RunFailed(Failure.BAD_SETTING, "input: the film lies in the run's folder; name another folder with --out")
    begun = time.perf_counter()
    limits = Limits(seconds=config.most_minutes * 60)
    told = media.describe(film, limits)
    if told.sound_s <= 0:
        raise RunFailed(Failure.DATA_MALFORMED, f"{film.name}: has no sound; give a film in which people are heard")
    device = settle(config.device, config.threads)
    model, weights = weights_of(config.checkpoint)
    model = model.to(device).eval()
    run.event("film", **{name: getattr(told, name) for name in ("seconds", "sound_s", "picture_s", "width", "height")})
    scratch = run.out / ".scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        return _Separation(config, run, limits, film, told, model, weights, device, scratch, finder).report(begun)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFailed(Failure.DISK_FULL, f"there is no space left below {run.out}") from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def weights_of(checkpoint: str) -> tuple[Separator, str]:
    """The model, or without a word of it the bundled one; and what it is called. Raises RunFailed."""
    if checkpoint:
        return load(Path(checkpoint)), Path(checkpoint).name
    return load(BUNDLED), "the bundled weights, which have seen drawn mouths only: of people expect little"


class _Separation:
    """One run of the verb, step by step."""

    def __init__(
        self,
        config: Separate,
        run: Run,
        limits: Limits,
        film: Path,
        told: Media,
        model: Separator,
        weights: str,
        device: torch.device,
        scratch: Path,
        finder: Finder | None,
    ) -> None:
        self._config, self._run, self._limits = config, run, limits
        self._film, self._media = film, told
        self._model, self._weights, self._device = model, weights, device
        self._scratch, self._finder = scratch, finder
        self._notes: list[str] = []
        self._artefacts: dict[str, str] = {}
        self._metrics: dict[str, Metric] = {}
        self._looks = bool(told.picture_s > 0)

    def report(self, begun: float) -> Report:
        began = time.perf_counter()
        tracks = self._tracks()
        looked_s = time.perf_counter() - began
        names = self._names(tracks)
        mixture, voices, model_s = self._separate(tracks, len(names))
        seconds = len(mixture) / RATE
        self._metrics |= {
            "duration": Measured(round(seconds, 3), "s"),
            "voices": Measured(len(names)),
            "faces": Measured(len(tracks)),
            "lips_missing_rate": Measured(round(self._missing(tracks, names, len(mixture)), 6)),
        }
        drift = self._observe(tracks, names, mixture, voices)
        self._write(names, mixture, voices)
        if self._config.picture:
            sounds = [(f"before: {self._film.name}", mixture)]
            sounds += [(f"after: {name}", voice) for name, voice in zip(names, voices, strict=True)]
            picture.write_spectrograms(self._run.out / "spectrograms.svg", sounds)
            self._artefacts["spectrograms"] = "spectrograms.svg"
        whole_s = time.perf_counter() - begun
        nothing = Unavailable("no faces were looked for")
        self._metrics |= {
            "real_time_factor": Measured(round(whole_s / seconds, 4)),
            "real_time_factor_model": Measured(round(model_s / seconds, 4)),
            "real_time_factor_faces": Measured(round(looked_s / seconds, 4)) if self._looks else nothing,
            **{name: Unavailable(NO_CLEAN) for name in ("si_snri", "sdri", "pesq", "stoi")},
        }
        self._notes.append(f"separated on {self._device} with {self._weights}")
        return Report(metrics=self._metrics, artefacts=self._artefacts, drift=drift, notes=tuple(self._notes))

    # --- who is there ----------------------------------------------------------------------------------------------

    def _tracks(self) -> list[Track]:
        """The faces, or none, and then a note why."""
        if not self._looks:
            self._notes.append("there are no pictures: separated by sound alone")
            return []

        def step(done: int, total: int) -> None:
            if done % FPS == 0:
                self._run.check()
                self._run.progress(self._media.seconds * done / total, 2 * self._media.seconds, "s")

        try:
            tracks = mouths.tracks_of(
                self._film,
                landmarks=self._config.landmarks or None,
                speakers=self._config.speakers,
                finder=self._finder,
                keep_in=self._scratch,
                media=self._media,
                limits=self._limits,
                step=step,
            )
        except RunFailed as why:
            # Landmarks were asked for; and without a number of voices there is nothing to go on with.
            may = why.kind in (Failure.NOT_INSTALLED, Failure.DATA_MALFORMED)
            if self._config.landmarks or not self._config.speakers or not may:
                raise
            self._looks = False
            self._notes.append(f"faces could not be looked for: {why}. Separated by sound alone")
            self._run.event("sound_alone", why=str(why))
            return []
        for at, track in enumerate(tracks):
            if not track.moves():
                self._notes.append(f"{track.name} does not move, as a photograph: separated by sound alone")
                self._run.event("sound_alone", why=f"{track.name} does not move")
                tracks[at] = replace(track, seen=np.zeros_like(track.seen))
        self._run.event("faces", found=len(tracks), seen=[round(float(track.seen.mean()), 4) for track in tracks])
        return tracks

    def _names(self, tracks: Sequence[Track]) -> list[str]:
        count = self._config.speakers or len(tracks)
        if not count:
            why = "no face was found" if self._looks else "there are no pictures"
            raise RunFailed(
                Failure.DATA_MALFORMED,
                f"{self._film.name}: {why}: say how many voices there are (`speakers`), or where the mouths are "
                "(`landmarks`)",
            )
        if count > SLOTS:
            raise RunFailed(Failure.BAD_SETTING, f"speakers: the model tells at most {SLOTS} voices apart")
        if self._looks and not tracks:
            self._notes.append("no face was found: separated by sound alone")
            self._run.event("sound_alone", why="no face was found")
        elif tracks and len(tracks) < count:
            self._notes.append(f"of {count} voices {len(tracks)} have a face: the others are separated by sound alone")
        return [f"{'face' if at <= len(tracks) else 'voice'}-{at}" for at in range(1, count + 1)]

    def _missing(self, tracks: Sequence[Track], names: Sequence[str], samples: int) -> float:
        """The share of moments without a mouth, over all voices; and when, as events and notes."""
        frames = max(1, math.ceil(samples / HOP))
        seen = np.zeros((len(names), frames), np.float32)
        for at, track in enumerate(tracks):
            part = track.seen[:frames]
            seen[at, : len(part)] = part
        rate = 1 - float(seen.mean())
        spans = []
        if tracks:
            still = [at for at, track in enumerate(tracks) if not track.seen.any()]  # told already
            nobody = ~(seen[: len(tracks)] > 0).any(axis=0)
            if len(still) < len(tracks):
                spans += [("no face was found", start, stop) for start, stop in _spans(nobody)]
            for at, track in enumerate(tracks):
                if len(tracks) > 1 and at not in still:
                    away = (seen[at] == 0) & ~nobody
                    spans += [(f"{track.name} was not seen", start, stop) for start, stop in _spans(away)]
        for what, start, stop in spans[:MOST_SPANS]:
            self._run.event("lips_missing", what=what, from_s=start / FPS, to_s=stop / FPS)
        for what, start, stop in spans[:TOLD_SPANS]:
            self._notes.append(f"{what} between {start / FPS:.1f} s and {stop / FPS:.1f} s: separated by sound alone")
        if len(spans) > TOLD_SPANS:
            self._notes.append(f"and {len(spans) - TOLD_SPANS} more times: see the events lips_missing")
        return rate

    # --- the voices ------------------------------------------------------------------------------------------------

    def _separate(self, tracks: Sequence[Track], count: int) -> tuple[Floats, list[Floats], float]:
        """The mixture and each voice, (samples,), mapped from files; and the seconds that the model took."""
        streamer = Streamer(self._model, count)
        size = max(1, round(self._config.chunk * FPS)) * HOP
        paths = [self._scratch / f"{name}.f32" for name in ("mixture", *map(str, range(count)))]
        model_s = 0.0
        done = 0
        with contextlib.ExitStack() as stack:
            mixed, *files = [stack.enter_context(path.open("wb")) for path in paths]
            for sound in _pieces(media.sound_blocks(self._film, self._media, self._limits), size):
                self._run.check()
                first, last = done // HOP, -(-(done + len(sound)) // HOP)
                lips, seen = _lips(tracks, count, first, last)
                began = time.perf_counter()
                pushed = streamer.push(*(torch.from_numpy(part)[None].to(self._device) for part in (sound, lips, seen)))
                voices = pushed[0].float().cpu().numpy()
                model_s += time.perf_counter() - began
                mixed.write(sound.tobytes())
                for file, voice in zip(files, voices, strict=True):
                    file.write(np.ascontiguousarray(voice, np.float32).tobytes())
                done += len(sound)
                whole = self._media.seconds
                at = min(done / RATE, whole) + (whole if self._looks else 0)
                factor = model_s / (done / RATE)
                self._run.progress(at, 2 * whole if self._looks else whole, "s", real_time_factor=factor)
            began = time.perf_counter()
            for file, voice in zip(files, streamer.flush()[0].float().cpu().numpy(), strict=True):
                file.write(np.ascontiguousarray(voice, np.float32).tobytes())
            model_s += time.perf_counter() - began
        if not done:
            raise RunFailed(Failure.DATA_MALFORMED, f"{self._film.name}: its sound has no length; copy it again")
        mixture, *rest = [np.memmap(path, np.float32, "r") for path in paths]
        for voice in rest:
            if len(voice) != len(mixture):
                raise AssertionError(f"{len(mixture)} samples went in, and {len(voice)} came out")
        return mixture, list(rest), model_s

    def _observe(
        self, tracks: Sequence[Track], names: Sequence[str], mixture: Floats, voices: Sequence[Floats]
    ) -> dict[str, Any]:
        """Rows for the drift detector, and what they say of the whole film."""
        rows = Observations("current")
        own, rest = np.zeros(len(voices)), np.zeros(len(voices))
        size = round(BATCH_S * FPS) * HOP
        for start in range(0, len(mixture), size):
            heard = np.asarray(mixture[start : start + size])
            parts = np.stack([voice[start : start + size] for voice in voices])
            _, seen = _lips(tracks, len(names), start // HOP, -(-(start + len(heard)) // HOP), pictures=False)
            rows.add(heard[None], seen[None], parts[None])
            own += np.square(parts, dtype=np.float64).sum(axis=1)
            rest += np.square(heard - parts, dtype=np.float64).sum(axis=1)
        for name, voice, other in zip(names, own, rest, strict=True):
            known = voice > 0 and other > 0
            self._metrics[f"{name}.input_snr_estimated"] = (
                Measured(round(10 * math.log10(voice / other), 2), "dB")
                if known
                else Unavailable("there is nothing beside this voice" if voice > 0 else "this voice is silent")
            )
        path, drift = rows.write(self._run.out)
        self._artefacts["observations"] = path
        return drift

    # --- what is written -------------------------------------------------------------------------------------------

    def _write(self, names: Sequence[str], mixture: Floats, voices: Sequence[Floats]) -> None:
        wanted = _loudness(mixture)
        self._metrics["input_loudness"] = _lufs(wanted)
        film, told = self._film, self._media
        for name, voice in zip(names, voices, strict=True):
            self._run.check()
            before = _loudness(voice)
            gain = loudness.matching_gain(before, wanted) if self._config.loudness else 1.0
            wav = self._run.out / f"{name}.wav"
            media.write_wav(wav, loudness.limited(voice, gain))
            self._artefacts[wav.name] = wav.name
            after = loudness.Loudness()
            for block in media.wav_blocks(wav):
                after.add(block)
            self._metrics[f"{name}.loudness"] = _lufs(after.value())
            self._metrics[f"{name}.gain"] = Measured(round(20 * math.log10(gain), 2), "dB")
            if self._config.loudness and not abs(after.value() - wanted) <= 0.5:
                self._notes.append(_why_not_as_loud(name, before, after.value(), wanted))
            if not self._config.video or told.picture_s <= 0:
                continue
            try:
                how = media.write_mp4(self._run.out / f"{name}.mp4", film, wav, told, self._limits)
            except RunFailed as why:
                if why.kind is not Failure.DATA_MALFORMED:
                    raise
                self._notes.append(f"{name}.mp4 could not be written: {why}")
                (self._run.out / f"{name}.mp4").unlink(missing_ok=True)
                continue
            self._artefacts[f"{name}.mp4"] = f"{name}.mp4"
            if how == "encoded":  # once; the films of the others copy its pictures
                film = self._run.out / f"{name}.mp4"
                told = media.describe(film, self._limits)


def _why_not_as_loud(name: str, before: float, after: float, wanted: float) -> str:
    if not math.isfinite(before) or not math.isfinite(wanted):
        return f"{name} is silent, or too short to have a loudness: it is as it was separated"
    if wanted - before > loudness.MOST_GAIN_DB:
        return f"{name} hardly speaks: it is {loudness.MOST_GAIN_DB:g} dB louder than it was, and no more"
    return f"{name} is {after - wanted:+.1f} LU from the film's loudness: its peaks allow no more"


def _spans(away: Any) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(away, np.int8), [0]])))
    for start, stop in edges.reshape(-1, 2).tolist():
        if stop - start >= SPAN_S * FPS:
            yield start, stop


def _lips(
    tracks: Sequence[Track], count: int, first: int, last: int, *, pictures: bool = True
) -> tuple[Floats, Floats]:
    """(voices, frames, 48, 48) and (voices, frames): zeros for voices without a face."""
    lips = np.zeros((count, last - first, mouths.SIZE, mouths.SIZE) if pictures else (count, 0), np.float32)
    seen = np.zeros((count, last - first), np.float32)
    for at, track in enumerate(tracks):
        if pictures:
            lips[at], seen[at] = track.part(first, last)
        else:
            part = track.seen[first:last]
            seen[at, : len(part)] = part
    return lips, seen


def _pieces(blocks: Iterator[Floats], size: int) -> Iterator[Floats]:
    """The same sound in pieces of `size`; the last may be shorter."""
    waiting: list[Floats] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        while held >= size:
            joined = np.concatenate(waiting)
            yield joined[:size]
            waiting, held = [joined[size:]], held - size
    if held:
        yield np.concatenate(waiting)


def _loudness(sound: Floats) -> float:
    meter = loudness.Loudness()
    for start in range(0, len(sound), 60 * RATE):
        meter.add(np.asarray(sound[start : start + 60 * RATE]))
    return meter.value()


def _lufs(value: float) -> Metric:
    return Measured(round(value, 2), "LUFS") if math.isfinite(value) else Unavailable("silent, or shorter than 0.4 s")
