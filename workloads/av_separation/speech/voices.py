"""Debian's voices: flite, as a program, and espeak-ng, as a library. Both tell when each phoneme is spoken.

A voice is named `flite:slt` or `espeak:en-us+f2`. `@1.08` after it makes another person of it: pitch and formants are
1.08 times higher, at the same tempo.
"""

import ctypes
import ctypes.util
import re
import subprocess
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from workloads.av_separation.speech.visemes import Phone

RATE = 16_000
_NAME = re.compile(r"(?P<engine>flite|espeak):(?P<name>[\w+-]+)(@(?P<scale>[01]\.\d+))?")
_FLITE = ("awb", "rms", "slt", "kal16")  # at 16 kHz; kal is 8 kHz, awb_time tells the time and nothing else
_PHONEME_EVENTS, _IPA_EVENTS, _DONT_EXIT = 0x0001, 0x0002, 0x8000
_RETRIEVAL, _EVENT_END, _EVENT_PHONEME, _UTF8, _SPEED = 1, 0, 7, 1, 1


class NoVoice(Exception):
    """The message says what to install, or which names there are."""


class Spoken(NamedTuple):
    """(samples,) at 16 kHz, -1…1, and its phonemes."""

    audio: NDArray[np.float32]
    phones: tuple[Phone, ...]
    ipa: bool


@dataclass(frozen=True, slots=True)
class Voice:
    engine: str
    name: str
    scale: float = 1.0

    @classmethod
    def named(cls, name: str) -> "Voice":
        found = _NAME.fullmatch(name)
        if found is None or (found["engine"] == "flite" and found["name"] not in _FLITE):
            known = ", ".join(f"flite:{voice}" for voice in _FLITE)
            raise NoVoice(f"{name!r} is no voice: say {known}, or espeak:en-us+f2; @1.08 after it makes it higher")
        return cls(found["engine"], found["name"], float(found["scale"] or 1))


@dataclass(frozen=True, slots=True)
class Engines:
    """Where the two are: flite's program, espeak-ng's library and the folder of `espeak-ng-data`."""

    flite: str | None = None
    espeak: str | None = None
    espeak_data: str | None = None

    def speak(self, voice: Voice, text: str) -> Spoken:
        """Raises NoVoice."""
        if voice.engine == "flite":
            spoken = self._flite(voice, text)
        else:
            spoken = _Espeak.at(self.espeak, self.espeak_data).speak(voice, text)
        return spoken

    def _flite(self, voice: Voice, text: str) -> Spoken:
        program = self.flite or which("flite")
        if program is None:
            raise NoVoice("flite is not installed: `apt-get install flite`, or say where it is with --flite")
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder) / "said.wav"
            stretch = ["--setf", f"duration_stretch={voice.scale}"]
            command = [program, "-voice", voice.name, *stretch, "-psdur", "-t", text, "-o", str(wav)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            if done.returncode != 0 or not wav.exists():
                raise NoVoice(f"{program} did not speak as {voice.name}: {done.stderr.strip() or done.returncode}")
            audio, rate = soundfile.read(wav, dtype="float32")
        phones = [part.rsplit(":", 1) for part in done.stdout.split()]
        return _scaled(audio, rate, tuple(Phone(name, float(end)) for name, end in phones), voice.scale, ipa=False)


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; `id` is a union of which only the phoneme's name is read."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_ubyte * 8),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Espeak:
    """The library keeps one state a process, so there is one of this a process."""

    _only: "_Espeak | None" = None

    @classmethod
    def at(cls, library: str | None, data: str | None) -> "_Espeak":
        if cls._only is None:
            cls._only = cls(library, data)
        return cls._only

    def __init__(self, library: str | None, data: str | None) -> None:
        found = library or ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self._lib: Any = ctypes.CDLL(found)
        except OSError as error:
            what = "espeak-ng is not installed: `apt-get install espeak-ng`, or say where its library is with --espeak"
            raise NoVoice(f"{what} ({error})") from error
        path = data.encode() if data else None
        options = _PHONEME_EVENTS | _IPA_EVENTS | _DONT_EXIT
        self._rate = self._lib.espeak_Initialize(_RETRIEVAL, 0, path, options)
        if self._rate <= 0:
            raise NoVoice("espeak-ng finds no data: say where the folder of espeak-ng-data is with --espeak-data")
        self._heard: list[NDArray[np.int16]] = []
        self._starts: list[tuple[str, float]] = []
        self._callback = _Callback(self._hear)  # kept: C holds no reference to it
        self._lib.espeak_SetSynthCallback(self._callback)

    def _hear(self, wav: Any, samples: int, events: Any) -> int:
        if wav and samples > 0:
            self._heard.append(np.ctypeslib.as_array(wav, (samples,)).astype(np.int16))
        number = 0
        while events[number].type != _EVENT_END:
            if events[number].type == _EVENT_PHONEME:
                name = bytes(events[number].id).split(b"\0")[0].decode("utf-8", "ignore")
                self._starts.append((name, events[number].audio_position / 1000))
            number += 1
        return 0

    def speak(self, voice: Voice, text: str) -> Spoken:
        if self._lib.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise NoVoice(f"espeak-ng has no voice {voice.name!r}: see `espeak-ng --voices` and `--voices=variant`")
        self._heard, self._starts = [], []
        self._lib.espeak_SetParameter(_SPEED, round(165 / voice.scale), 0)
        raw = text.encode()
        self._lib.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, _UTF8, None, None)
        self._lib.espeak_Synchronize()
        if not self._heard:
            raise NoVoice(f"espeak-ng said nothing as {voice.name!r}")
        audio = np.concatenate(self._heard).astype(np.float32) * np.float32(1 / 32768)
        ends = [start for _, start in self._starts[1:]] + [len(audio) / self._rate]
        phones = [Phone("", self._starts[0][1])] if self._starts else []
        phones += [Phone(name, end) for (name, _), end in zip(self._starts, ends, strict=True)]
        return _scaled(audio, self._rate, tuple(phones), voice.scale, ipa=True)


def _scaled(audio: NDArray[np.float32], rate: int, phones: tuple[Phone, ...], scale: float, *, ipa: bool) -> Spoken:
    """To 16 kHz, played `scale` times as fast."""
    ratio = Fraction(RATE, rate) / Fraction(scale).limit_denominator(100)
    if ratio != 1:
        audio = resample_poly(audio, ratio.numerator, ratio.denominator).astype(np.float32)
    return Spoken(audio, tuple(Phone(name, end / scale) for name, end in phones), ipa)
