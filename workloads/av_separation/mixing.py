"""Mixtures of voices, made while training: each a pure function of (seed, index).

What is drawn: whose voices, which part of them, their levels, a room, noise, and spans in which the lips are not seen.
The target `clean` is the dry voice, time-aligned with the direct sound: a room's reflections are to be removed, too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from workloads.contract import Failure, RunFailed

RATE, FPS, SIZE = 16_000, 25, 48
SAMPLES_A_FRAME = RATE // FPS

Floats = NDArray[np.float32]

_PEAK = 0.95
_LEVEL_DB = (-32.0, -18.0)  # of a mixture, against full scale
_SILENT = 1e-3  # of a crop's level, where another one is drawn
_EARLY_S = 0.05
_RT60_S = (0.10, 0.60)  # time in which the reverberation falls by 60 dB: a car to a large room
_DIRECT_DB = (0.0, 12.0)  # direct sound over reverberation


@dataclass(frozen=True, slots=True)
class Example:
    """`mixture` (samples,), `mouths` (speakers, frames, 48, 48) 0…1, `seen` (speakers, frames) 0 or 1, `clean`
    (speakers, samples): float32. `snr_db` is the first voice's level in the mixture over all the rest of it."""

    mixture: Floats
    mouths: Floats
    seen: Floats
    clean: Floats
    snr_db: float


class Clip(Protocol):
    """One person who speaks. `first` and `frames` count video frames of 640 samples."""

    @property
    def voice(self) -> str: ...

    @property
    def frames(self) -> int: ...

    def audio(self, first: int, frames: int) -> Floats:
        """(frames * 640,)"""
        ...

    def mouths(self, first: int, frames: int) -> NDArray[np.uint8]:
        """(frames, 48, 48), 0…255; zeros where there is no picture."""
        ...

    def seen(self, first: int, frames: int) -> Floats:
        """(frames,)"""
        ...


@dataclass(frozen=True, slots=True)
class Mixing:
    """How to mix. `noise`, `reverb`, `missing` and `same_voice` are shares, 0…1: of the mixtures with noise, in a
    room, of the voices with a span of unseen lips, of mixtures of one voice with itself. `vary` changes the pictures a
    little (mirrored, moved, brighter), for training."""

    seconds: float = 2.0
    speakers: int = 2
    seed: int = 0
    snr_db: tuple[float, float] = (-5.0, 5.0)
    noise: float = 0.0
    noise_db: tuple[float, float] = (0.0, 20.0)
    reverb: float = 0.0
    missing: float = 0.0
    same_voice: float = 0.0
    vary: bool = False

    @property
    def frames(self) -> int:
        return max(1, round(self.seconds * FPS))


@dataclass(frozen=True)
class Mixer:
    """A source of mixtures of `clips`: at least as many as are mixed, and of one voice, where one is mixed with itself.
    Raises RunFailed where there are fewer."""

    clips: Sequence[Clip]
    mixing: Mixing

    def __post_init__(self) -> None:
        if len(self.clips) < self.mixing.speakers:
            what = f"{self.mixing.speakers} voices cannot be mixed of {len(self.clips)} clip(s): add some, or mix fewer"
            raise RunFailed(Failure.DATA_MISSING, what)
        if self.mixing.same_voice and not self._crowded:
            what = (
                f"no voice has {self.mixing.speakers} clips to be mixed with itself: set same_voice to 0, or add some"
            )
            raise RunFailed(Failure.DATA_MISSING, what)

    @cached_property
    def _by_voice(self) -> Mapping[str, Sequence[Clip]]:
        found: dict[str, list[Clip]] = {}
        for clip in self.clips:
            found.setdefault(clip.voice, []).append(clip)
        return found

    @cached_property
    def _crowded(self) -> tuple[str, ...]:
        """The voices with enough clips to be mixed with themselves."""
        return tuple(voice for voice, clips in self._by_voice.items() if len(clips) >= self.mixing.speakers)

    def example(self, index: int) -> Example:
        how = self.mixing
        rng = np.random.default_rng([how.seed, index])
        parts = [self._part(clip, rng) for clip in self._cast(rng)]
        clean = np.stack([part[0] for part in parts])  # (speakers, samples)
        mouths = np.stack([part[1] for part in parts]).astype(np.float32)
        mouths *= np.float32(1 / 255)  # (speakers, frames, 48, 48)
        seen = np.stack([part[2] for part in parts])  # (speakers, frames)
        clean *= _gains(clean, rng.uniform(*how.snr_db, size=how.speakers))[:, None]
        heard = in_a_room(clean, rng) if rng.random() < how.reverb else clean
        mixture = heard.sum(0)
        if rng.random() < how.noise:
            mixture = mixture + self._noise(mixture, rng)
        scale = _safe(mixture, clean, rng.uniform(*_LEVEL_DB))
        for speaker in range(how.speakers):
            if how.vary:
                mouths[speaker] = varied(mouths[speaker], rng)
            if rng.random() < how.missing:
                hide(seen[speaker], rng)
        mouths *= seen[:, :, None, None]
        rest = mixture - heard[0]
        return Example(mixture * scale, mouths, seen, clean * scale, decibels(heard[0], rest))

    def _cast(self, rng: np.random.Generator) -> list[Clip]:
        """As many clips as speakers: of different voices as far as there are, or of one."""
        how = self.mixing
        voices = list(self._by_voice)
        if rng.random() < how.same_voice:
            pool = self._by_voice[self._crowded[int(rng.integers(len(self._crowded)))]]
            return [pool[int(number)] for number in rng.choice(len(pool), how.speakers, replace=False)]
        if len(voices) < how.speakers:
            return [self.clips[int(number)] for number in rng.choice(len(self.clips), how.speakers, replace=False)]
        pools = [self._by_voice[voices[int(number)]] for number in rng.choice(len(voices), how.speakers, replace=False)]
        return [pool[int(rng.integers(len(pool)))] for pool in pools]

    def _part(self, clip: Clip, rng: np.random.Generator) -> tuple[Floats, NDArray[np.uint8], Floats]:
        """(samples,), (frames, 48, 48), (frames,). Around a clip that is too short it is silent, and no mouth is
        seen."""
        audio, first, span = self._voice(clip, rng)
        taken = self.mixing.frames - sum(span)
        pictures = np.pad(clip.mouths(first, taken), (span, (0, 0), (0, 0)))
        return audio, pictures, np.pad(clip.seen(first, taken), span).astype(np.float32)

    def _voice(self, clip: Clip, rng: np.random.Generator) -> tuple[Floats, int, tuple[int, int]]:
        """(samples,) of a clip, the frame that it begins with, and the silent frames before and after."""
        taken = min(clip.frames, self.mixing.frames)
        for _ in range(8):  # a crop in which nobody speaks teaches nothing
            first = int(rng.integers(clip.frames - taken + 1))
            audio = clip.audio(first, taken)
            if float(np.sqrt(np.mean(audio**2))) > _SILENT:
                break
        late = self.mixing.frames - taken
        before = int(rng.integers(late + 1))
        span = (before, late - before)
        return np.pad(audio, [frames * SAMPLES_A_FRAME for frames in span]), first, span

    def _noise(self, mixture: Floats, rng: np.random.Generator) -> Floats:
        """White, pink, or the babble of eight clips, so many dB below the voices."""
        kind = int(rng.integers(3))
        if kind == 2:
            chosen = rng.integers(len(self.clips), size=8)
            made = np.asarray(sum(self._voice(self.clips[int(number)], rng)[0] for number in chosen), np.float32)
        else:
            made = coloured(len(mixture), kind, rng)
        level = rng.uniform(*self.mixing.noise_db)
        if not made.any():  # the babble of people who pause
            return made
        loud: Floats = made * np.float32(10 ** ((decibels(mixture, made) - level) / 20))
        return loud


def decibels(one: Floats, other: Floats) -> float:
    """The level of one sound over another's. Infinite over silence."""
    ours, theirs = float(np.mean(np.square(one, dtype=np.float64))), float(np.mean(np.square(other, dtype=np.float64)))
    if theirs == 0:
        return math.inf
    return 10 * math.log10(max(ours, 1e-20) / theirs)


def _gains(clean: Floats, apart_db: NDArray[np.float64]) -> Floats:
    """(speakers,): each voice as loud as the first, but for its number of dB less."""
    level = np.sqrt(np.mean(np.square(clean, dtype=np.float64), 1)).clip(1e-8)
    apart_db[0] = 0
    gains: Floats = (0.05 / level * 10 ** (-apart_db / 20)).astype(np.float32)
    return gains


def _safe(mixture: Floats, clean: Floats, level_db: float) -> np.float32:
    """What to multiply with: to the level, or less where a peak would be cut off."""
    level = math.sqrt(float(np.mean(np.square(mixture, dtype=np.float64))))
    peak = max(float(np.abs(mixture).max()), float(np.abs(clean).max()), 1e-8)
    return np.float32(min(10 ** (level_db / 20) / max(level, 1e-8), _PEAK / peak))


def coloured(samples: int, power: int, rng: np.random.Generator) -> Floats:
    """Noise whose power falls with frequency to this power: 0 is white, 1 pink. From 20 Hz on, level 1."""
    white = rng.standard_normal(samples, np.float32)
    if power == 0:
        return white
    spectrum = np.fft.rfft(white)
    hertz = np.fft.rfftfreq(samples, 1 / RATE)
    spectrum *= np.where(hertz < 20, 0, np.maximum(hertz, 20) ** (-power / 2))
    made = np.fft.irfft(spectrum, samples)
    return (made / max(float(made.std()), 1e-12)).astype(np.float32)


def in_a_room(voices: Floats, rng: np.random.Generator) -> Floats:
    """(speakers, samples), heard in one room from different places: the direct sound, six early reflections within
    50 ms, and noise that decays exponentially (Moorer 1979)."""
    rt60 = rng.uniform(*_RT60_S)
    length = round(rt60 * RATE)
    time = np.arange(length) / RATE
    heard = np.empty_like(voices)
    for number, voice in enumerate(voices):
        tail = rng.standard_normal(length) * 10 ** (-3 * time / rt60)
        tail[: int(0.004 * RATE)] = 0
        early = rng.integers(int(0.002 * RATE), int(_EARLY_S * RATE), size=6)
        early = early[early < length]
        tail[early] += rng.choice([-1, 1], len(early)) * 10 ** (-3 * early / RATE / rt60) * 8
        tail *= 10 ** (-rng.uniform(*_DIRECT_DB) / 20) / math.sqrt(float(np.sum(tail**2)) + 1e-12)
        tail[0] = 1
        heard[number] = oaconvolve(voice, tail.astype(np.float32))[: len(voice)]
    return heard


def varied(mouths: Floats, rng: np.random.Generator) -> Floats:
    """(frames, 48, 48): mirrored or not, moved by up to 2 px, in another light."""
    if rng.random() < 0.5:
        mouths = mouths[:, :, ::-1]
    down, right = rng.integers(-2, 3, size=2)
    mouths = np.roll(mouths, (int(down), int(right)), (1, 2))
    light, shade = rng.uniform(0.8, 1.2), rng.uniform(-0.08, 0.08)
    return (mouths * np.float32(light) + np.float32(shade)).clip(0, 1)


def hide(seen: Floats, rng: np.random.Generator) -> None:
    """Takes the lips away for a while: from 0.2 s to all of it. (frames,), in place."""
    frames = len(seen)
    length = int(rng.integers(min(5, frames), frames + 1))
    first = int(rng.integers(frames - length + 1))
    seen[first : first + length] = 0
