"""Phonemes and their times to the shape of a mouth, 25 times a second.

A shape is five numbers from 0 to 1: how far the lips are apart, how wide they are drawn, how far they are pursed, how
much of the teeth shows, how much of the tongue. Each phoneme has a target and a dominance, how little it lets its
neighbours change it (after Cohen and Massaro 1993): a "b" always closes the lips, a "k" takes the vowel's shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

FPS = 25
SHAPE = ("open", "wide", "round", "teeth", "tongue")
_GRID_HZ = 200
_BLUR_S = 0.028  # of a lip's movement from one target to the next


class Phone(NamedTuple):
    """A phoneme's name in ARPAbet (in lower case) or IPA, and when it ends, in seconds."""

    name: str
    end_s: float


class _Target(NamedTuple):
    open: float
    wide: float
    round: float
    teeth: float
    tongue: float
    dominance: float


_REST = _Target(0.02, 0.45, 0.10, 0.0, 0.0, 0.6)
_LIPS = _Target(0.00, 0.45, 0.15, 0.0, 0.0, 6.0)  # p b m
_LABIODENTAL = _Target(0.10, 0.50, 0.05, 0.8, 0.0, 3.0)  # f v
_DENTAL = _Target(0.22, 0.50, 0.05, 0.5, 0.9, 1.5)  # th dh
_ALVEOLAR = _Target(0.22, 0.50, 0.05, 0.5, 0.5, 0.5)  # t d n
_LATERAL = _Target(0.32, 0.50, 0.05, 0.3, 0.9, 0.8)  # l
_SIBILANT = _Target(0.14, 0.65, 0.05, 1.0, 0.0, 1.6)  # s z
_HUSH = _Target(0.22, 0.25, 0.70, 0.9, 0.0, 2.0)  # sh zh ch jh
_VELAR = _Target(0.28, 0.50, 0.05, 0.2, 0.0, 0.25)  # k g ng h
_R = _Target(0.24, 0.30, 0.55, 0.3, 0.1, 1.0)
_W = _Target(0.10, 0.05, 1.00, 0.0, 0.0, 2.5)
_Y = _Target(0.20, 0.85, 0.00, 0.6, 0.2, 1.0)
_AA = _Target(1.00, 0.50, 0.10, 0.2, 0.1, 1.4)
_AE = _Target(0.85, 0.75, 0.00, 0.5, 0.2, 1.4)
_AH = _Target(0.60, 0.50, 0.10, 0.3, 0.1, 1.0)
_AO = _Target(0.75, 0.25, 0.60, 0.1, 0.0, 1.4)
_AX = _Target(0.38, 0.48, 0.10, 0.3, 0.1, 0.6)
_EH = _Target(0.62, 0.68, 0.00, 0.5, 0.2, 1.2)
_ER = _Target(0.40, 0.35, 0.45, 0.3, 0.2, 1.2)
_IH = _Target(0.38, 0.68, 0.00, 0.6, 0.2, 1.0)
_IY = _Target(0.26, 0.95, 0.00, 0.8, 0.2, 1.4)
_OE = _Target(0.45, 0.25, 0.75, 0.2, 0.1, 1.3)
_UH = _Target(0.32, 0.25, 0.65, 0.1, 0.0, 1.1)
_UW = _Target(0.18, 0.08, 0.95, 0.0, 0.0, 1.6)

_ARPABET: dict[str, tuple[_Target, ...]] = {
    **dict.fromkeys(("pau", "sil", "brth"), (_REST,)),
    **dict.fromkeys("pbm", (_LIPS,)),
    **dict.fromkeys("fv", (_LABIODENTAL,)),
    **dict.fromkeys(("th", "dh"), (_DENTAL,)),
    **dict.fromkeys(("t", "d", "n", "dx", "en"), (_ALVEOLAR,)),
    **dict.fromkeys(("l", "el"), (_LATERAL,)),
    **dict.fromkeys("sz", (_SIBILANT,)),
    **dict.fromkeys(("sh", "zh", "ch", "jh"), (_HUSH,)),
    **dict.fromkeys(("k", "g", "ng", "hh", "h", "hv"), (_VELAR,)),
    **dict.fromkeys(("r", "axr"), (_R,)),
    "w": (_W,),
    "y": (_Y,),
    "em": (_LIPS,),
    "aa": (_AA,),
    "ae": (_AE,),
    "ah": (_AH,),
    "ao": (_AO,),
    "ax": (_AX,),
    "eh": (_EH,),
    "er": (_ER,),
    "ih": (_IH,),
    "iy": (_IY,),
    "uh": (_UH,),
    "uw": (_UW,),
    "aw": (_AA, _UH),
    "ay": (_AA, _IH),
    "ey": (_EH, _IY),
    "ow": (_AO, _UW),
    "oy": (_AO, _IH),
}

_IPA: dict[str, _Target] = {
    **dict.fromkeys("pbmɓ", _LIPS),
    **dict.fromkeys("fvɱʋɸβ", _LABIODENTAL),
    **dict.fromkeys("θð", _DENTAL),
    **dict.fromkeys("tdnɾʈɖɳɗ", _ALVEOLAR),
    **dict.fromkeys("lɫɭʎɬ", _LATERAL),
    **dict.fromkeys("sz", _SIBILANT),
    **dict.fromkeys("ʃʒɕʑʂʐ", _HUSH),
    **dict.fromkeys("kgɡŋhxɣqχʁɦçɲɢħʕʔ", _VELAR),
    **dict.fromkeys("rɹɻʀɽ", _R),
    **dict.fromkeys("wɥ", _W),
    "j": _Y,
    "a": _AA,
    "ɑ": _AA,
    "ɐ": _AH,
    "æ": _AE,
    "ʌ": _AH,
    "ɔ": _AO,
    "ɒ": _AO,
    "ə": _AX,
    "ᵻ": _IH,
    "ɚ": _ER,
    "ɛ": _EH,
    "e": _EH,
    "ɜ": _ER,
    "ɝ": _ER,
    "ɪ": _IH,
    "ɨ": _IH,
    "i": _IY,
    "o": _AO,
    "ʊ": _UH,
    "u": _UW,
    "ɯ": _IY,
    "ø": _OE,
    "œ": _OE,
    "y": _UW,
    "ʏ": _UH,
    "ɵ": _UH,
    "ɤ": _AH,
}


def targets_of(name: str, *, ipa: bool = False) -> tuple[_Target, ...]:
    """The targets that a phoneme runs through. What is not known rests: a pause, a click, a tone's mark."""
    if not ipa:
        return _ARPABET.get(name, (_REST,))
    return tuple(_IPA[letter] for letter in name if letter in _IPA) or (_REST,)


def shapes(phones: Sequence[Phone], frames: int, *, ipa: bool = False) -> NDArray[np.uint8]:
    """(frames, 5): the mouth's shape in the middle of each video frame, 0…255 for 0…1."""
    steps = -(-frames * _GRID_HZ // FPS)
    told = np.tile(np.asarray(_REST, np.float64), (steps, 1))
    start = 0.0
    for phone in phones:
        found = targets_of(phone.name, ipa=ipa)
        length = (phone.end_s - start) / len(found)
        for number, target in enumerate(found):
            first = round((start + number * length) * _GRID_HZ)
            last = round((start + (number + 1) * length) * _GRID_HZ)
            told[first:last] = target
        start = phone.end_s
    weight = told[:, 5:]
    blurred = gaussian_filter1d(told[:, :5] * weight, _BLUR_S * _GRID_HZ, axis=0, mode="nearest")
    blurred /= gaussian_filter1d(weight, _BLUR_S * _GRID_HZ, axis=0, mode="nearest")
    middles = ((np.arange(frames) + 0.5) * _GRID_HZ / FPS).astype(np.int64)
    bytes_: NDArray[np.uint8] = np.round(blurred[middles].clip(0, 1) * 255).astype(np.uint8)
    return bytes_
