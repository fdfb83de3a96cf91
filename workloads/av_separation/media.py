"""Films and sounds, in and out: 16 kHz mono sound, pictures at 25 a second, and films with another sound.

What is read is somebody's file and may mean harm. Only a regular file is opened, by its descriptor, and only by the
containers and codecs named here: a playlist or a concat script, which would make the library read *other* files, is
none of them. Pixels and seconds are limited, and nothing holds a whole film in memory.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from workloads.contract import Failure, RunFailed

try:
    import av
    import soundfile
    from av.audio.resampler import AudioResampler
    from av.video.reformatter import VideoReformatter
except ImportError as error:
    raise RunFailed(
        Failure.NOT_INSTALLED, f"films and sounds are read with PyAV and soundfile, and {error.name} is not installed"
    ) from error

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

RATE = 16_000
FPS = 25
HOP = RATE // FPS  # samples of one picture

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,asf,ogg,wav,w64,aiff,flac,mp3,aac,amr,caf"
"""Demuxers that read the one file they are given. None of hls, dash, concat, image2, sdp, rtsp, lavfi, imf, …"""

PICTURES = (
    "h264,hevc,av1,libdav1d,vp8,vp9,libvpx,libvpx-vp9,mpeg4,mpeg2video,mpeg1video,h263,mjpeg,prores,dnxhd,theora,"
    "wmv1,wmv2,wmv3,vc1,flv,ffv1,rawvideo,png"
)
SOUNDS = (
    "aac,aac_latm,mp3,mp3float,mp2,mp2float,opus,libopus,vorbis,libvorbis,flac,alac,ac3,eac3,amrnb,amrwb,wmav1,"
    "wmav2,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_u8,"
    "pcm_s8,pcm_mulaw,pcm_alaw,adpcm_ms,adpcm_ima_wav"
)

COPIED = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
"""Pictures that an MP4 takes as they are. Anything else is encoded anew."""

GAP_S = 0.1  # timestamps of sound wander by less; more is a piece that is missing
STILL_S = 0.5  # a picture that stands for longer shows no moving lips
LONGEST_SIDE = 960  # of a picture that is looked at: more pixels make no better mouth


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken at most."""

    pixels: int = 4096 * 2304
    seconds: float = 4 * 3600.0
    channels: int = 64
    packets_a_second: int = 1_000  # more than any camera and any codec write


DEFAULT = Limits()
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Media:
    """What a film or a sound is. Times count from the first moment of either stream."""

    seconds: float
    sound_s: float  # until when there is sound; 0: there is none
    picture_s: float  # until when there are pictures; 0: there are none
    start_s: float  # that first moment, in the file's own time
    width: int = 0  # as shown: a phone's film may be turned
    height: int = 0
    fps: float = 0.0
    picture_codec: str = ""
    container: str = ""


class Picture(NamedTuple):
    """One moment of a film, `moment` / 25 s after its start."""

    moment: int
    grey: Bytes  # (height, width), the longest side at most LONGEST_SIDE
    off_s: float  # how far the nearest picture of the film lies from this moment


# --- opening -------------------------------------------------------------------------------------------------------


def _bad(path: str | Path, what: str) -> RunFailed:
    return RunFailed(Failure.DATA_MALFORMED, f"{Path(path).name}: {what}")


def opened(path: str | Path) -> IO[bytes]:
    """The regular file `path`, for reading. Never a link, a folder, a pipe or a device."""
    name = Path(path).name or str(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise RunFailed(Failure.DATA_MISSING, f"{name}: there is no such file; give the path of a film") from error
    except (OSError, ValueError) as error:
        if os.path.islink(path):
            raise _bad(path, "is a link; give the file itself") from error
        raise RunFailed(Failure.DATA_MISSING, f"{name}: cannot be opened; make the file readable") from error
    told = os.fstat(handle)
    if not stat.S_ISREG(told.st_mode):
        os.close(handle)
        raise _bad(path, "is no regular file (a folder, a pipe or a device); give a film or a sound file")
    if told.st_size == 0:
        os.close(handle)
        raise _bad(path, "is empty; copy it again")
    return os.fdopen(handle, "rb")


@contextmanager
def _container(path: str | Path, limits: Limits) -> Iterator[Any]:
    """The open container. What goes wrong in it is the file's fault, and is told so."""
    options = {
        "format_whitelist": CONTAINERS,
        "codec_whitelist": f"{PICTURES},{SOUNDS}",
        "protocol_whitelist": "",  # it reads the descriptor that it is given, and opens nothing
        "max_pixels": str(limits.pixels),
        "max_streams": "64",
        "threads": "1",
    }
    with opened(path) as file:
        try:
            container = av.open(file, mode="r", options=options, metadata_errors="replace")
        except av.error.FFmpegError as error:
            raise _bad(path, _reason(error)) from error
        except (OSError, ValueError) as error:
            raise _bad(path, "is no film or sound that can be read") from error
        try:
            yield container
        except av.error.FFmpegError as error:
            if error.errno in _FULL:  # what is written while this is read
                raise RunFailed(Failure.DISK_FULL, "there is no space left for the films") from error
            raise _bad(path, _reason(error)) from error
        finally:
            container.close()


def _reason(error: Exception) -> str:
    said = "; ".join(str(part) for part in (getattr(error, "strerror", ""), getattr(error, "log", None)) if part)
    if "moov" in said or "End of file" in said:
        return "is cut off: its table of contents is missing; copy or record it again"
    if isinstance(error, av.error.ArgumentError):
        return "is of a kind that is not taken (a playlist, a script or an unknown container); convert it to MP4"
    return (
        "is no film or sound that can be read: damaged, cut off, or something else; convert it to MP4 or copy it again"
    )


def _first(container: Any, kind: str) -> Any | None:
    """The first stream of a kind; never a cover picture."""
    for stream in container.streams:
        if stream.type == kind and not (stream.disposition & av.stream.Disposition.attached_pic):
            return stream
    return None


def describe(path: str | Path, limits: Limits = DEFAULT) -> Media:
    """Walks through the packets of `path`, without decoding them. Raises RunFailed where it is no whole film or sound.

    A header may say anything; the packets are what there is. A file that ends before its header says is cut off.
    """
    with _container(path, limits) as container:
        picture, sound = _first(container, "video"), _first(container, "audio")
        if picture is None and sound is None:
            raise _bad(path, "has neither pictures nor sound; give a film or a sound file")
        _check_codecs(path, picture, sound, limits)
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        count = 0
        streams = [stream for stream in (picture, sound) if stream is not None]
        for packet in container.demux(streams):
            time = packet.pts if packet.pts is not None else packet.dts
            if time is None or not packet.size:
                continue
            begin = float(time * packet.time_base)
            end = begin + float((packet.duration or 0) * packet.time_base)
            key = packet.stream.index
            first[key] = min(first.get(key, begin), begin)
            last[key] = max(last.get(key, end), end)
            count += 1
            long = last[key] - min(first.values())
            if long > limits.seconds or count > limits.packets_a_second * (limits.seconds + 1):
                raise _bad(
                    path,
                    f"is longer than the {limits.seconds / 60:g} min that are taken; cut it, or raise most_minutes",
                )
        if not first:
            raise _bad(path, "holds no pictures and no sound, only a header; copy or record it again")
        # Encoders put a few milliseconds before the start that nobody hears.
        start = max(min(first.values()), 0.0) if min(first.values()) > -1.0 else min(first.values())
        ends = {key: end - start for key, end in last.items()}
        seconds = max(ends.values())
        told = float(container.duration or 0) / av.time_base
        whole = "mov" in container.format.name or "matroska" in container.format.name
        if whole and max(last.values()) + max(1.0, 0.1 * told) < told:  # Matroska counts from 0, wherever it begins
            raise _bad(path, f"is cut off: it says {told:.1f} s, but only {seconds:.1f} s are there; copy it again")
        about: dict[str, Any] = {}
        if picture is not None and picture.index in ends:
            turned = _turned(container, picture)
            width, height = picture.codec_context.width, picture.codec_context.height
            about = {
                "width": height if turned else width,
                "height": width if turned else height,
                "fps": float(picture.average_rate or 0),
                "picture_codec": picture.codec_context.codec.canonical_name,
                "picture_s": ends[picture.index],
            }
        return Media(
            seconds=seconds,
            sound_s=ends.get(sound.index, 0.0) if sound is not None else 0.0,
            start_s=start,
            container=container.format.name,
            picture_s=about.pop("picture_s", 0.0),
            **about,
        )


def _check_codecs(path: str | Path, picture: Any | None, sound: Any | None, limits: Limits) -> None:
    if picture is not None:
        codec = picture.codec_context
        if codec is None or codec.codec.name not in PICTURES.split(","):
            raise _bad(path, "has pictures of a codec that is not taken; convert it to H.264")
        if codec.width * codec.height > limits.pixels:
            raise _bad(
                path,
                f"has pictures of {codec.width} × {codec.height}; at most {limits.pixels / 1e6:.1f} million pixels "
                "are taken: make them smaller",
            )
    if sound is not None:
        codec = sound.codec_context
        if codec is None or codec.codec.name not in SOUNDS.split(","):
            raise _bad(path, "has sound of a codec that is not taken; convert it to AAC or WAV")
        if not 1_000 <= (codec.sample_rate or 0) <= 768_000 or not 1 <= codec.channels <= limits.channels:
            raise _bad(path, f"has sound at {codec.sample_rate} Hz with {codec.channels} channels; convert it to WAV")


def _turned(container: Any, stream: Any) -> bool:
    """Whether pictures are shown on their side. Only a decoded picture tells."""
    try:
        container.seek(0)
    except av.error.FFmpegError:
        return False
    for count, packet in enumerate(container.demux(stream)):
        try:
            for frame in packet.decode():
                return bool(round(frame.rotation / 90) % 2)
        except av.error.FFmpegError:
            pass  # damaged; the next one may tell
        if count > 250:
            break
    return False


# --- sound in ------------------------------------------------------------------------------------------------------


def sound_blocks(path: str | Path, media: Media | None = None, limits: Limits = DEFAULT) -> Iterator[Floats]:
    """The sound of `path` at 16 kHz, mono, in pieces, from the film's first moment on.

    Pieces that are missing or damaged are silence, so that sound and pictures stay together.
    """
    media = media or describe(path, limits)
    if media.sound_s <= 0:
        raise _bad(path, "has no sound; give a film in which people are heard")
    with _container(path, limits) as container:
        stream = _first(container, "audio")
        assert stream is not None
        time = media.start_s  # up to where the sound has been read
        resampler: Any | None = None
        form: tuple[Any, ...] = ()
        channels = 1
        good = bad = 0
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                bad += 1
                continue
            for frame in frames:
                good += 1
                begin = frame.time if frame.time is not None else time
                now = (frame.format.name, frame.layout.name, frame.sample_rate)
                gap = min(begin - time, limits.seconds)
                if resampler is not None and (now != form or gap > GAP_S):
                    yield from _plain(resampler.resample(None), channels)
                    resampler = None
                if resampler is None:
                    if gap > 0.5 / RATE:
                        yield from _silence(gap)
                        time += gap
                    resampler, form = AudioResampler(format="flt", layout="mono", rate=RATE), now
                    channels = frame.layout.nb_channels
                time += frame.samples / frame.sample_rate
                frame.pts = None  # the resampler shall not mind where it comes from
                yield from _plain(resampler.resample(frame), channels)
        if resampler is not None:
            yield from _plain(resampler.resample(None), channels)
        if not good:
            raise _bad(path, f"has no sound that can be decoded ({bad} damaged pieces); convert it or copy it again")


def _plain(frames: Iterable[Any], channels: int) -> Iterator[Floats]:
    """The library adds two channels up to 3 dB more than their mean; of such, and of more, that is taken back."""
    share = np.float32(1 if channels == 1 else 0.5**0.5)
    for frame in frames:
        values = np.asarray(frame.to_ndarray(), np.float32).reshape(-1) * share
        if values.size:
            yield np.clip(np.nan_to_num(values, posinf=0, neginf=0), -8, 8)  # a float file may hold anything


def _silence(seconds: float) -> Iterator[Floats]:
    left = round(seconds * RATE)
    while left > 0:
        yield np.zeros(min(left, RATE), np.float32)
        left -= RATE


def read_audio(path: str | Path, limits: Limits = DEFAULT) -> Floats:
    """The whole sound of `path`: (samples,) at 16 kHz, mono. For short files: an hour takes 230 MB."""
    return np.concatenate(list(sound_blocks(path, limits=limits)))


# --- pictures in ---------------------------------------------------------------------------------------------------


class Video:
    """The pictures of a film as grey, 25 a second whatever its own rate, which need not be steady.

    For each moment it takes the nearest picture. Iterating again decodes again; one picture at a time is held.
    `damaged` counts, after an iteration, the pieces that could not be decoded.
    """

    def __init__(self, path: str | Path, media: Media | None = None, limits: Limits = DEFAULT) -> None:
        self._path, self._limits = path, limits
        self.media = media or describe(path, limits)
        if self.media.picture_s <= 0:
            raise _bad(path, "has no pictures; give a film")
        self.scale = min(1.0, LONGEST_SIDE / max(self.media.width, self.media.height, 1))
        """Pixels of a grey picture to one of the film."""
        self.frames = max(1, round(self.media.picture_s * FPS))
        self.damaged = 0

    def __iter__(self) -> Iterator[Picture]:
        return self.every(1)

    def every(self, step: int) -> Iterator[Picture]:
        """The moments 0, step, 2 * step, ...: pictures that nobody wants are decoded, but not turned to grey."""
        self.damaged = 0
        moment = 0
        before: tuple[float, Callable[[], Bytes]] | None = None
        for time, grey in self._decoded():
            # All moments that lie nearer to the picture before than to this one.
            while before is not None and moment < self.frames and moment / FPS <= (before[0] + time) / 2:
                yield Picture(moment, before[1](), abs(moment / FPS - before[0]))
                moment += step
            if moment >= self.frames:
                return
            if before is None or time <= (moment + 1) / FPS or before[0] < moment / FPS:
                before = (time, grey)
        if before is None:
            raise _bad(self._path, f"has no picture that can be decoded ({self.damaged} damaged); convert it to H.264")
        while moment < self.frames:
            yield Picture(moment, before[1](), abs(moment / FPS - before[0]))
            moment += step

    def _decoded(self) -> Iterator[tuple[float, Callable[[], Bytes]]]:
        """Each picture's time, and what makes it grey."""
        with _container(self._path, self._limits) as container:
            stream = _first(container, "video")
            assert stream is not None
            _bound(stream, self._limits)
            reformatter = VideoReformatter()
            time = -1.0
            step = 1 / (self.media.fps or FPS)
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    self.damaged += 1
                    continue
                for frame in frames:
                    at = frame.time - self.media.start_s if frame.time is not None else time + step
                    if at <= time or frame.width * frame.height > self._limits.pixels:
                        continue  # timestamps that go back
                    time = at
                    yield at, cache(partial(self._grey, reformatter, frame))

    def _grey(self, reformatter: Any, frame: Any) -> Bytes:
        wanted = (max(2, round(self.media.height * self.scale)), max(2, round(self.media.width * self.scale)))
        width, height = max(2, round(frame.width * self.scale)), max(2, round(frame.height * self.scale))
        try:
            plain = reformatter.reformat(frame, width=width, height=height, format="gray", interpolation="AREA")
        except av.error.FFmpegError:  # a damaged header may claim colours that there are not
            self.damaged += 1
            return np.zeros(wanted, np.uint8)
        grey: Bytes = np.ascontiguousarray(np.rot90(plain.to_ndarray(), round(frame.rotation / 90) % 4))
        if grey.shape != wanted:  # the film changes its size on the way
            whole = np.zeros(wanted, np.uint8)
            high, wide = min(wanted[0], grey.shape[0]), min(wanted[1], grey.shape[1])
            whole[:high, :wide] = grey[:high, :wide]
            return whole
        return grey


def _bound(stream: Any, limits: Limits) -> None:
    """The limits hold inside of a stream, too: its size may change on the way."""
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = min(4, os.cpu_count() or 1)


def read_video(path: str | Path, limits: Limits = DEFAULT) -> Video:
    """The pictures of the film `path`, one after the other."""
    return Video(path, limits=limits)


# --- out -----------------------------------------------------------------------------------------------------------


def write_wav(path: Path, blocks: Iterable[Floats], rate: int = RATE) -> int:
    """16-bit mono WAV. Returns the number of samples. The same sound gives the same bytes."""
    count = 0
    with _space(path), soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_16", format="WAV") as file:
        for block in blocks:
            file.write(np.clip(block, -1.0, 1.0 - 2**-15))
            count += len(block)
    return count


def wav_blocks(path: Path, size: int = RATE) -> Iterator[Floats]:
    with soundfile.SoundFile(path) as file:
        yield from file.blocks(size, dtype="float32")


@contextmanager
def _space(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RunFailed(Failure.DISK_FULL, f"there is no space left for {path.name}") from error
        raise


def write_mp4(path: Path, film: str | Path, wav: Path, media: Media | None = None, limits: Limits = DEFAULT) -> str:
    """A film with the pictures of `film` and the sound of `wav` alone. Returns "copied" or "encoded".

    Pictures that an MP4 takes are copied, packet by packet: nothing is lost, and it takes no time. Others are encoded
    as H.264 (MPEG-4 where the library has no libx264), with their own timestamps. The sound is AAC.
    """
    media = media or describe(film, limits)
    copied = media.picture_codec in COPIED and any(name in media.container for name in ("mov", "matroska"))
    if copied:
        try:
            _write(path, film, wav, media, limits, copy=True)
        except (RunFailed, ValueError, OSError) as error:
            if isinstance(error, RunFailed) and error.kind is Failure.DISK_FULL:
                raise
        else:
            return "copied"
    _write(path, film, wav, media, limits, copy=False)
    return "encoded"


def _write(path: Path, film: str | Path, wav: Path, media: Media, limits: Limits, *, copy: bool) -> None:
    with _space(path), _container(film, limits) as source, av.open(str(path), "w", format="mp4") as target:
        stream = _first(source, "video")
        assert stream is not None
        picture: Any
        if copy:
            picture = target.add_stream_from_template(stream)
        else:
            _bound(stream, limits)
            name = "libx264" if "libx264" in av.codecs_available else "mpeg4"
            picture = target.add_stream(name, rate=Fraction(media.fps or FPS).limit_denominator(1001))
            picture.width, picture.height = media.width // 2 * 2 or 2, media.height // 2 * 2 or 2
            picture.pix_fmt = "yuv420p"
            picture.codec_context.time_base = Fraction(1, 90_000)
            if name == "libx264":
                picture.codec_context.options = {"preset": "veryfast", "crf": "20", "threads": "1"}
        voice: Any = target.add_stream("aac", rate=RATE, layout="mono")
        voice.bit_rate = 96_000
        sound = _encoded(voice, wav)
        ahead: Any | None = next(sound, None)
        packets = _copies(source, stream, picture, media) if copy else _anew(source, stream, picture, media)
        for packet in packets:
            now = float(packet.dts * packet.time_base)
            while ahead is not None and float(ahead.dts * ahead.time_base) <= now:
                target.mux(ahead)
                ahead = next(sound, None)
            target.mux(packet)
        while ahead is not None:
            target.mux(ahead)
            ahead = next(sound, None)


def _encoded(stream: Any, wav: Path) -> Iterator[Any]:
    at = 0
    for block in wav_blocks(wav):
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        at += len(block)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _copies(source: Any, stream: Any, to: Any, media: Media) -> Iterator[Any]:
    back = round(media.start_s / stream.time_base)
    for packet in source.demux(stream):
        if packet.dts is None or packet.pts is None:
            if packet.size:
                raise ValueError("a packet without a time")  # it is encoded anew instead
            continue
        packet.pts -= back
        packet.dts -= back
        packet.stream = to
        yield packet


def _anew(source: Any, stream: Any, to: Any, media: Media) -> Iterator[Any]:
    reformatter = VideoReformatter()
    last = -1
    for packet in source.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue  # the picture before stands on
        for frame in frames:
            turns = round(frame.rotation / 90) % 4
            if turns:
                upright = np.rot90(reformatter.reformat(frame, format="rgb24").to_ndarray(), turns)
                shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(upright, np.uint8), format="rgb24")
            else:
                shown = frame
            time = (frame.time if frame.time is not None else 0.0) - media.start_s
            at = round(time * 90_000)
            if at <= last:
                continue
            last = at
            plain = reformatter.reformat(shown, width=to.width, height=to.height, format="yuv420p")
            plain.pts, plain.time_base = at, Fraction(1, 90_000)
            plain.pict_type = 0  # the encoder decides itself what is a key picture
            yield from to.encode(plain)
    yield from to.encode(None)
