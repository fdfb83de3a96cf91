"""Faces in a film, and the mouth of each: 48 x 48 px of grey, 25 a second.

Faces are found by OpenCV's Haar cascades, or are given in a file where they are known already:

    {"fps": 25, "faces": [[FRAME, FRAME, ...], ...]}

one list for each face, one FRAME for each picture at that rate: `null` where the face is not seen; four numbers
`[left, top, right, bottom]`, the mouth from corner to corner and from lip to lip; or the landmarks of a face, `[x, y]`
(a third number is ignored), 68 of them in dlib's order or 468 or 478 in MediaPipe's. Pixels of the film as it is shown,
or, with `"normalised": true`, shares of its width and height, as MediaPipe tells them.

A mouth fills two thirds of its picture's width, upright and steady: it is cut along a smoothed path, so that the lips
move and the picture does not.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from workloads.av_separation.media import DEFAULT, FPS, STILL_S, Bytes, Floats, Limits, Media, Video, opened
from workloads.contract import Failure, RunFailed

SIZE = 48
SHARE = 0.67  # of the width of its picture that a mouth fills
BELOW = 0.05  # of its picture by which a mouth lies above the middle: more chin than nose
MOST_FACES = 8
MOST_BYTES = 256 * 1024 * 1024  # of a file with landmarks

EVERYWHERE = 25  # frames from one look at the whole picture to the next
LOOKED_AT = 480  # pixels along the longest side of a picture in which faces are looked for
NEARBY = 5  # frames from one look around known faces to the next
APART = 25  # frames without a hit after which a face counts as gone
SMOOTH = 13  # frames over which a mouth's path is averaged: half a second, as lip readers do
OVERLAP = 0.3  # of two boxes that are the same face
ALIKE = 0.4  # correlation of two faces that are the same, when one comes back in its place
STILL = 0.1  # of 255: mean change, reached by fewer than one in twenty pictures of a photograph
CUT = 0.12  # mean change from one look to the next at which the scene is another

Box = tuple[float, float, float, float]
"""Left, top, width, height."""

Doubles = npt.NDArray[np.float64]


class Found(NamedTuple):
    """A face in one picture, in its pixels."""

    box: Box
    turned: int = 0
    """-1: to the left of the picture, 1: to the right, 0: towards the camera."""


class Finder(Protocol):
    """Finds faces in a grey picture; `near` are boxes around which to look, or none: everywhere."""

    def __call__(self, grey: Bytes, near: Sequence[Box]) -> list[Found]: ...


@dataclass(frozen=True, slots=True)
class Track:
    """One face. Frames are 25 a second from the film's start; there may be fewer than the sound is long."""

    name: str
    pictures: Bytes
    """(frames, 48, 48), 0 ... 255, zeros where the face is not seen; a file mapped to memory for long films."""
    seen: Floats
    """(frames,), 1 or 0."""
    boxes: Floats
    """(frames, 4): left, top, right, bottom of the face in pixels of the film; NaN where it is not seen."""

    @property
    def mouths(self) -> Floats:
        """(frames, 48, 48), 0 ... 1, all at once: for short films."""
        return np.asarray(self.pictures, np.float32) / np.float32(255)

    def moves(self) -> bool:
        """False for a photograph: a camera's pictures are never the same twice, even of lips that rest."""
        changes = []
        for start in range(0, len(self.pictures) - 1, 1000):
            some = self.pictures[start : start + 1001].astype(np.float32)
            both = (self.seen[start : start + 1001][1:] * self.seen[start : start + 1001][:-1]) > 0
            changes.append(np.abs(np.diff(some, axis=0)).mean(axis=(1, 2))[both])
        told = np.concatenate([*changes, np.zeros(0, np.float32)])
        return len(told) > 0 and float(np.quantile(told, 0.95)) >= STILL

    def part(self, start: int, stop: int) -> tuple[Floats, Floats]:
        """Mouths (stop - start, 48, 48) and seen (stop - start,); zeros where the film has ended."""
        mouths = np.zeros((stop - start, SIZE, SIZE), np.float32)
        seen = np.zeros(stop - start, np.float32)
        there = self.pictures[start:stop]
        mouths[: len(there)] = there.astype(np.float32) / 255
        seen[: len(there)] = self.seen[start:stop]
        return mouths, seen


# --- finding -------------------------------------------------------------------------------------------------------


class Cascades:
    """OpenCV's cascades for faces seen from the front and from either side (Viola and Jones, 2001).

    They want a face of at least 1/20 of the picture's longest side, upright, and miss a face that is turned far away.
    """

    def __init__(self) -> None:
        try:
            import cv2  # type: ignore[import-not-found,unused-ignore]  # the extra `faces`
        except ImportError as error:
            raise RunFailed(
                Failure.NOT_INSTALLED,
                'faces are found with OpenCV, which is not installed: pip install "opencv-python-headless<5", '
                "or give `landmarks`",
            ) from error
        folder = getattr(getattr(cv2, "data", None), "haarcascades", None)
        if folder is None or not hasattr(cv2, "CascadeClassifier"):
            raise RunFailed(
                Failure.NOT_INSTALLED,
                f'OpenCV {cv2.__version__} comes without cascades: pip install "opencv-python-headless<5"',
            )
        cv2.setNumThreads(1)  # with more, the order of what is found is left to chance
        self._cv2 = cv2
        self._front = cv2.CascadeClassifier(folder + "haarcascade_frontalface_alt2.xml")
        self._side = cv2.CascadeClassifier(folder + "haarcascade_profileface.xml")

    def __call__(self, grey: Bytes, near: Sequence[Box]) -> list[Found]:
        shrink = min(1.0, LOOKED_AT / max(grey.shape))
        if shrink < 1:
            size = (round(grey.shape[1] * shrink), round(grey.shape[0] * shrink))
            grey = np.asarray(self._cv2.resize(grey, size, interpolation=self._cv2.INTER_AREA), np.uint8)
        found: list[Found] = []
        if not near:
            found = self._look(grey, max(24, round(max(grey.shape) / 20)), max(grey.shape), 0, 0)
        for left, top, width, height in near:
            x, y, side = left * shrink, top * shrink, max(width, height) * shrink
            x0, y0 = max(0, round(x - 0.4 * side)), max(0, round(y - 0.4 * side))
            part = grey[y0 : round(y + 1.4 * side), x0 : round(x + 1.4 * side)]
            if min(part.shape, default=0) >= 20:
                found += self._look(np.ascontiguousarray(part), round(0.7 * side), round(1.4 * side), x0, y0, one=True)
        found = _distinct(found)
        return [Found((a / shrink, b / shrink, c / shrink, d / shrink), turned) for (a, b, c, d), turned in found]

    def _look(self, grey: Bytes, least: int, most: int, x0: int, y0: int, *, one: bool = False) -> list[Found]:
        """Those seen from the front come first: their mouths are the better known."""
        found: list[Found] = []
        flipped = np.ascontiguousarray(grey[:, ::-1])
        for picture, cascade, turned in ((grey, self._front, 0), (grey, self._side, -1), (flipped, self._side, 1)):
            if one and found:
                break
            boxes = cascade.detectMultiScale(picture, 1.1, 4, minSize=(least, least), maxSize=(most, most))
            for x, y, width, height in boxes:
                left = grey.shape[1] - x - width if turned > 0 else x
                found.append(Found((float(left + x0), float(y + y0), float(width), float(height)), turned))
        return found


def _distinct(found: Sequence[Found]) -> list[Found]:
    """Without those that overlap an earlier one."""
    kept: list[Found] = []
    for one in found:
        if all(overlap(one.box, other.box) < OVERLAP for other in kept):
            kept.append(one)
    return kept


def overlap(one: Box, other: Box) -> float:
    """Area of the intersection over that of the union."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0.0, wide) * max(0.0, high)
    return both / max(one[2] * one[3] + other[2] * other[3] - both, 1e-9)


@dataclass(slots=True)
class _Face:
    """What has been seen of one face: boxes by frame, and looks at its place, found or not."""

    hits: dict[int, Found] = field(default_factory=dict)
    looks: int = 0
    scenes: dict[int, int] = field(default_factory=dict)  # which scene each hit is of
    face: Doubles | None = None  # 16 x 16, mean 0 and length 1

    @property
    def last(self) -> int:
        return max(self.hits)

    @property
    def first(self) -> int:
        return min(self.hits)

    def box(self, moment: int) -> Box:
        return self.hits[moment].box


def _find(video: Video, finder: Finder, step: Callable[[int], None]) -> list[_Face]:
    """Follows faces through the film by the overlap of their boxes."""
    faces: list[_Face] = []
    live: list[_Face] = []
    before: Doubles | None = None
    scene = 0
    search = True
    for moment, grey, _ in video.every(NEARBY):
        small = _reduced(grey, 18, 32)
        if before is not None and float(np.abs(small - before).mean()) > CUT * 255:
            scene, live, search = scene + 1, [], True
        before = small
        live = [face for face in live if moment - face.last <= APART]
        everywhere = search or moment % EVERYWHERE == 0
        search = False
        if everywhere or live:
            near = [] if everywhere else [face.box(face.last) for face in live]
            found = finder(grey, near)
            for face in live:
                face.looks += 1
            pairs = [
                (overlap(one.box, face.box(face.last)), i, j)
                for i, one in enumerate(found)
                for j, face in enumerate(live)
            ]
            taken: set[int] = set()
            held: set[int] = set()
            for share, i, j in sorted(pairs, key=lambda pair: -pair[0]):
                if share >= OVERLAP and i not in taken and j not in held:
                    taken.add(i)
                    held.add(j)
                    _hit(live[j], moment, found[i], scene, grey)
            for i, one in enumerate(found):
                if everywhere and i not in taken and len(live) < 4 * MOST_FACES:
                    face = _Face(looks=1)
                    _hit(face, moment, one, scene, grey)
                    live.append(face)
                    faces.append(face)
        step(moment + 1)
    return faces


def _hit(face: _Face, moment: int, found: Found, scene: int, grey: Bytes) -> None:
    face.hits[moment] = found
    box = found.box
    face.scenes[moment] = scene
    if face.face is None:
        left, top = max(0, round(box[0])), max(0, round(box[1]))
        part = grey[top : round(box[1] + box[3]), left : round(box[0] + box[2])]
        if min(part.shape, default=0) >= 16:
            look = _reduced(part, 16, 16)
            look -= look.mean()
            face.face = look / max(float(np.linalg.norm(look)), 1e-9)


def _reduced(grey: Bytes, height: int, width: int) -> Doubles:
    """Means of a grid of parts."""
    rows = np.linspace(0, grey.shape[0], height + 1).astype(int)[:-1]
    columns = np.linspace(0, grey.shape[1], width + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0, dtype=np.float64), columns, axis=1)
    high, wide = np.diff([*rows, grey.shape[0]]), np.diff([*columns, grey.shape[1]])
    return np.asarray(sums / np.maximum(np.outer(high, wide), 1), np.float64)


def _joined(faces: Sequence[_Face]) -> list[_Face]:
    """A face that comes back in its place, and looks like it, is the same face."""
    whole: list[_Face] = []
    for face in sorted(faces, key=lambda face: face.first):
        for earlier in whole:
            if earlier.last < face.first and _same(earlier, face):
                earlier.hits.update(face.hits)
                earlier.scenes.update(face.scenes)
                earlier.looks += face.looks
                break
        else:
            whole.append(face)
    return whole


def _same(earlier: _Face, later: _Face) -> bool:
    """Within a scene, whoever turned away for a moment has hardly moved. Later, the look decides."""
    share = overlap(earlier.box(earlier.last), later.box(later.first))
    soon = later.first - earlier.last <= 3 * APART
    if soon and earlier.scenes[earlier.last] == later.scenes[later.first]:
        return share >= OVERLAP / 3
    if earlier.face is None or later.face is None:
        return share >= OVERLAP
    return share >= OVERLAP and float((earlier.face * later.face).sum()) >= ALIKE


# --- the path of a mouth -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Path:
    """Where a mouth is in each frame, in pixels of the film: (frames, 4) x, y, side of its picture, angle; and the box
    of the face, (frames, 4). NaN where it is not seen."""

    mouth: Doubles
    face: Doubles

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.mouth[:, 0]), np.bool_)


def _empty(frames: int) -> _Path:
    return _Path(np.full((frames, 4), np.nan), np.full((frames, 4), np.nan))


def _path_of_boxes(face: _Face, frames: int, scale: float) -> _Path:
    """Between two hits the mouth moves evenly."""
    path = _empty(frames)
    moments = sorted(face.hits)
    for moment in moments:
        path.mouth[moment], path.face[moment] = _mouth_of(face.hits[moment])
    for moment, after in pairwise(moments):
        if 1 < after - moment <= APART and face.scenes[after] == face.scenes[moment]:
            share = np.arange(1, after - moment)[:, None] / (after - moment)
            for rows in (path.mouth, path.face):
                rows[moment + 1 : after] = rows[moment] + share * (rows[after] - rows[moment])
    path.mouth[:, :3] /= scale
    path.face[:] /= scale
    return path


def _mouth_of(found: Found) -> tuple[Doubles, Doubles]:
    """Of a box, as the cascades draw it, the mouth is at a known place: measured on faces of a debate on television."""
    (left, top, width, height), turned = found
    side = (0.30 if turned else 0.36) * width / SHARE
    x, y = left + (0.5 + 0.22 * turned) * width, top + (0.75 if turned else 0.82) * height
    return np.array([x, y + BELOW * side, side, 0.0]), np.array([left, top, left + width, top + height])


def _smoothed(path: _Path) -> _Path:
    """Each stretch in which a mouth is seen, averaged over SMOOTH frames."""
    mouth = path.mouth.copy()
    seen = path.seen
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(int), [0]])))
    for start, stop in edges.reshape(-1, 2):
        weights = np.convolve(np.ones(stop - start), np.ones(SMOOTH), "full")[SMOOTH // 2 :][: stop - start]
        for column in range(4):
            sums = np.convolve(mouth[start:stop, column], np.ones(SMOOTH), "full")[SMOOTH // 2 :][: stop - start]
            mouth[start:stop, column] = sums / weights
    return _Path(mouth, path.face)


# --- faces that are known already ----------------------------------------------------------------------------------

_EYES_68 = (range(36, 42), range(42, 48))
_MOUTH_68 = range(48, 68)
_CORNERS_68 = (48, 54)
_EYES_478 = ((33, 133, 159, 145), (362, 263, 386, 374))
_MOUTH_478 = (61, 291, 0, 17, 13, 14, 37, 267, 84, 314)
_CORNERS_478 = (61, 291)


def given(path: str | Path, media: Media, frames: int) -> list[_Path]:
    """Paths out of a file with boxes or landmarks; see the head of this module. Raises RunFailed where it is none."""
    name = Path(path).name
    with opened(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RunFailed(Failure.DATA_MALFORMED, f"{name}: has more than {MOST_BYTES // 2**20} MiB; give mouth boxes")
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunFailed(Failure.DATA_MALFORMED, f"{name}: is no JSON; see the documentation of `landmarks`") from error
    faces = told.get("faces") if isinstance(told, dict) else None
    if not isinstance(faces, list) or not all(isinstance(face, list) for face in faces):
        raise RunFailed(Failure.DATA_MALFORMED, f'{name}: wants {{"fps": 25, "faces": [[...], ...]}}')
    fps = told.get("fps", FPS)
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 1 <= fps <= 1000:
        raise RunFailed(Failure.DATA_MALFORMED, f"{name}: fps is {str(fps)[:20]!r}; give 1 to 1000")
    if not 1 <= len(faces) <= MOST_FACES:
        raise RunFailed(Failure.DATA_MALFORMED, f"{name}: has {len(faces)} faces; give 1 to {MOST_FACES}")
    shares = np.array([media.width, media.height], float) if told.get("normalised") is True else np.ones(2)
    paths = []
    for number, face in enumerate(faces, 1):
        path_of = _empty(frames)
        for frame in range(frames):
            at = round(frame * fps / FPS)
            if at < len(face) and face[at] is not None:
                where = f"{name}: face {number}, frame {at}"
                path_of.mouth[frame], path_of.face[frame] = _place(face[at], shares, where)
        paths.append(_smoothed(path_of))
    return paths


def _place(told: Any, shares: Doubles, where: str) -> tuple[Doubles, Doubles]:
    """A mouth's x, y, side and angle, and the face's box."""
    try:
        points = np.array(told, np.float64)
    except (ValueError, TypeError, OverflowError):
        points = np.empty(0)
    if not np.isfinite(points).all() or (points.size and np.abs(points).max() > 1e6):
        raise RunFailed(Failure.DATA_MALFORMED, f"{where}: has numbers that are no places in a picture")
    if points.shape == (4,):
        corners = points.reshape(2, 2) * shares
        width, height = corners[1] - corners[0]
        if min(width, height) <= 0:
            raise RunFailed(Failure.DATA_MALFORMED, f"{where}: wants left < right and top < bottom")
        x, y = corners.mean(axis=0)
        side = width / SHARE
        face = np.array([x - 1.4 * width, y - 2.2 * width, x + 1.4 * width, y + 0.6 * width])
        return np.array([x, y + BELOW * side, side, 0.0]), face
    if points.ndim != 2 or points.shape[0] not in (68, 468, 478) or points.shape[1] not in (2, 3):
        raise RunFailed(
            Failure.DATA_MALFORMED, f"{where}: wants null, 4 numbers of a mouth's box, or 68, 468 or 478 landmarks"
        )
    points = points[:, :2] * shares
    few = len(points) == 68
    eyes = [points[list(eye)].mean(axis=0) for eye in (_EYES_68 if few else _EYES_478)]
    mouth = points[list(_MOUTH_68 if few else _MOUTH_478)].mean(axis=0)
    corners = points[list(_CORNERS_68 if few else _CORNERS_478)]
    line = eyes[1] - eyes[0]
    # Lips purse and faces turn. Neither shortens the way from the eyes to the mouth, and both leave one of these.
    wide = max(
        0.8 * float(np.linalg.norm(line)), 0.75 * float(np.linalg.norm(mouth - (eyes[0] + eyes[1]) / 2)),
    )  # fmt: skip
    side = max(wide, float(np.linalg.norm(corners[1] - corners[0])) * 0.8) / SHARE
    if side < 1e-6:
        raise RunFailed(Failure.DATA_MALFORMED, f"{where}: all landmarks are at one place")
    angle = math.atan2(line[1], line[0])
    down = np.array([-math.sin(angle), math.cos(angle)])
    centre = mouth + BELOW * side * down
    return np.array([*centre, side, angle]), np.array([*points.min(axis=0), *points.max(axis=0)])


# --- cutting -------------------------------------------------------------------------------------------------------


def cut(grey: Bytes, x: float, y: float, side: float, angle: float = 0.0) -> Bytes:
    """(48, 48) px around (x, y): a square of `side` px, turned by `angle`, each pixel the mean of what it covers."""
    fine = int(np.clip(math.ceil(side / SIZE), 1, 4))
    line = ((np.arange(SIZE * fine) + 0.5) / (SIZE * fine) - 0.5) * side
    sine, cosine = math.sin(angle), math.cos(angle)
    across = x - 0.5 + cosine * line[None, :] - sine * line[:, None]
    down = y - 0.5 + sine * line[None, :] + cosine * line[:, None]
    height, width = grey.shape
    across, down = np.clip(across, 0, width - 1), np.clip(down, 0, height - 1)
    left, top = np.minimum(across.astype(int), width - 2), np.minimum(down.astype(int), height - 2)
    u, v = across - left, down - top
    flat = grey.reshape(-1)
    corner = top * width + left
    upper = flat[corner] * (1 - u) + flat[corner + 1] * u
    lower = flat[corner + width] * (1 - u) + flat[corner + width + 1] * u
    values = upper * (1 - v) + lower * v
    means = values.reshape(SIZE, fine, SIZE, fine).mean(axis=(1, 3))
    return np.asarray(np.rint(means), np.uint8)


def tracks_of(
    path: str | Path,
    *,
    landmarks: str | Path | None = None,
    speakers: int = 0,
    finder: Finder | None = None,
    keep_in: Path | None = None,
    media: Media | None = None,
    limits: Limits = DEFAULT,
    step: Callable[[int, int], None] | None = None,
) -> list[Track]:
    """The faces of a film, from left to right: face-1, face-2, ...; with `speakers`, the so many that are seen most.

    Faces come from `landmarks`, or from `finder` (OpenCV's cascades unless given). `keep_in` is a folder for the mouths
    of a long film, which are then mapped to memory; `step` hears of frames done and frames in all. Raises RunFailed
    where the film or the landmarks cannot be read, or where nothing is installed that finds faces.
    """
    video = Video(path, media, limits)
    heard = step or (lambda *_: None)
    if landmarks:
        paths = given(landmarks, video.media, video.frames)
        passes = 1
    else:
        finder = finder or Cascades()
        passes = 2
        found = _joined(_find(video, finder, lambda done: heard(done, 2 * video.frames)))
        faces = [face for face in found if _is_face(face, video.frames)]
        paths = [_smoothed(_path_of_boxes(face, video.frames, video.scale)) for face in faces]
    most = speakers or MOST_FACES
    paths = sorted(paths, key=lambda path: -int(path.seen.sum()))[:most] if len(paths) > most else paths
    paths = [path for path in paths if path.seen.any()]
    if not landmarks:  # those who gave them have given them an order
        paths.sort(key=lambda path: (float(np.nanmedian(path.mouth[:, 0])), float(np.nanmedian(path.mouth[:, 1]))))
    if not paths:
        return []
    return _cut_all(
        video, paths, keep_in, lambda done: heard((passes - 1) * video.frames + done, passes * video.frames)
    )


def _is_face(face: _Face, frames: int) -> bool:
    """A pattern that looks like a face for a moment is none: it is found in too few looks, or for too short a time."""
    often = len(face.hits) >= 0.4 * face.looks
    return often and len(face.hits) >= 2 and face.last - face.first >= min(10 * FPS, max(FPS // 2, 0.2 * frames))


def _cut_all(video: Video, paths: Sequence[_Path], keep_in: Path | None, step: Callable[[int], None]) -> list[Track]:
    frames = video.frames
    stores: list[Bytes] = []
    for number in range(len(paths)):
        shape = (frames, SIZE, SIZE)
        if keep_in is None:
            stores.append(np.zeros(shape, np.uint8))
        else:
            stores.append(np.memmap(keep_in / f"mouths-{number + 1}.u8", np.uint8, "w+", shape=shape))
    seen = np.zeros((len(paths), frames), np.float32)
    for moment, grey, off_s in video:
        for number, path in enumerate(paths):
            x, y, side, angle = path.mouth[moment]
            inside = 0 <= x < video.media.width and 0 <= y < video.media.height  # false for NaN
            if inside and off_s <= STILL_S:
                scale = video.scale
                stores[number][moment] = cut(grey, x * scale, y * scale, side * scale, angle)
                seen[number, moment] = 1
        step(moment + 1)
    return [
        Track(f"face-{number}", store, there, np.where(there[:, None] > 0, path.face, np.nan).astype(np.float32))
        for number, (store, there, path) in enumerate(zip(stores, seen, paths, strict=True), 1)
    ]
