"""Separation while the sound comes in: any pieces in, and out come the same voices as of the whole recording."""

import torch
from torch import Tensor
from torch.nn import functional

from workloads.av_separation.model import CHUNK, MOUTH, SAMPLE_RATE, VIDEO_HOP, Separator, State, aligned
from workloads.av_separation.stft import EXTRA, HOP, TAIL

SAMPLES = CHUNK * VIDEO_HOP
"""Samples that are worked on together."""
LATENCY_S = (SAMPLES + TAIL) / SAMPLE_RATE
"""How long a sample waits at most before its voices are told, besides the time to compute them: 0.342 s."""


class Streamer:
    """One recording, or a batch of them in step. Memory and work for each piece stay the same however long it goes on.

    Sound waits for its pictures: where none are taken, give frames of zeros with `seen` = 0."""

    def __init__(self, model: Separator, speakers: int = 2) -> None:
        self._model = model
        self._speakers = speakers
        self._state = State(model)
        # What has come and is not worked on yet.
        self._sound: Tensor | None = None  # (batch, samples)
        self._mouths: Tensor | None = None
        self._seen: Tensor | None = None
        # What is carried from chunk to chunk.
        self._heard: Tensor | None = None  # (batch, TAIL), the last samples that were worked on
        self._lips: Tensor | None = None  # (batch, speakers, 1, lip_width), the last of the lips
        self._open: Tensor | None = None  # (batch, speakers, TAIL), to which frames to come will add
        self._pushed = self._told = 0  # samples
        self._ended = False

    @torch.inference_mode()
    def push(self, mixture: Tensor, mouths: Tensor, seen: Tensor) -> Tensor:
        """mixture: (batch, samples); mouths: (batch, speakers, frames, 48, 48); seen: (batch, speakers, frames), each
        of any length, 0 included. Returns what has become certain by now, (batch, speakers, samples)."""
        if self._ended:
            raise ValueError("this stream is at its end: begin another")
        if mouths.shape[1:2] != (self._speakers,) or mouths.shape[3:] != (MOUTH, MOUTH):
            raise ValueError(f"mouths of {self._speakers} speakers, {MOUTH} x {MOUTH} px: not {tuple(mouths.shape)}")
        if mouths.shape[:3] != seen.shape or len(mixture) != len(seen):
            raise ValueError(f"{tuple(mixture.shape)}, {tuple(mouths.shape)} and {tuple(seen.shape)} do not fit")
        self._pushed += mixture.shape[1]
        sound = mixture if self._sound is None else torch.cat([self._sound, mixture], dim=1)
        mouths = mouths if self._mouths is None else torch.cat([self._mouths, mouths], dim=2)
        seen = seen if self._seen is None else torch.cat([self._seen, seen], dim=2)
        chunks = min(sound.shape[1] // SAMPLES, seen.shape[2] // CHUNK)
        done = [
            self._work(
                sound[:, at * SAMPLES : (at + 1) * SAMPLES],
                mouths[:, :, at * CHUNK : (at + 1) * CHUNK],
                seen[:, :, at * CHUNK : (at + 1) * CHUNK],
            )
            for at in range(chunks)
        ]
        # Copies: a view would keep what has been worked on.
        self._sound = sound[:, chunks * SAMPLES :].clone()
        self._mouths, self._seen = mouths[:, :, chunks * CHUNK :].clone(), seen[:, :, chunks * CHUNK :].clone()
        return torch.cat([self._nothing(mixture), *done], dim=2)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The rest. Pictures that never came count as not seen, and pictures past the sound are left out."""
        if self._ended:
            raise ValueError("this stream is at its end: begin another")
        self._ended = True
        if self._sound is None or self._mouths is None or self._seen is None:
            return torch.zeros(1, self._speakers, 0)
        due = self._pushed - self._told
        if not due:
            return self._nothing(self._sound)
        sound, mouths, seen = aligned(self._sound, self._mouths, self._seen)
        sound = functional.pad(sound, (0, EXTRA * HOP))
        done = [
            self._work(
                sound[:, at * SAMPLES : (at + 1) * SAMPLES],
                mouths[:, :, at * CHUNK : (at + 1) * CHUNK],
                seen[:, :, at * CHUNK : (at + 1) * CHUNK],
            )
            for at in range(-(-sound.shape[1] // SAMPLES))
        ]
        return torch.cat(done, dim=2)[..., :due]

    def _nothing(self, like: Tensor) -> Tensor:
        return like.new_zeros(len(like), self._speakers, 0)

    def _work(self, sound: Tensor, mouths: Tensor, seen: Tensor) -> Tensor:
        """One chunk, or the beginning of the last one: as many samples out as in, but of TAIL samples earlier."""
        lips = self._model.see(mouths, seen, self._state) if seen.shape[2] else None
        # Past the last picture its lips are held, as `Separator.separate` does.
        missing = -(-sound.shape[1] // VIDEO_HOP) - seen.shape[2]
        last = self._lips if lips is None else lips[:, :, -1:]
        assert last is not None
        lips = torch.cat([*([] if lips is None else [lips]), *([last] * missing)], dim=2)
        self._lips = last
        before = sound.new_zeros(len(sound), TAIL) if self._heard is None else self._heard
        heard = torch.cat([before, sound], dim=1)
        voices = self._model.synthesise(self._model.estimate(self._model.analyse(heard), lips, self._state))
        if self._open is not None:
            voices = torch.cat([voices[..., :TAIL] + self._open, voices[..., TAIL:]], dim=2)
        whole = voices[..., 0 if self._heard is not None else TAIL : sound.shape[1]]
        self._heard, self._open = heard[:, -TAIL:], voices[..., sound.shape[1] :]
        self._told += whole.shape[2]
        return whole
