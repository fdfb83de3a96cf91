"""Each face in a film gives its mouth, upright and steady; whoever is not seen is told as not seen."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads.films import film, mouth_box, opening, place, scene
from workloads.av_separation import mouths
from workloads.av_separation.mouths import Box, Found, Track, cut, overlap, tracks_of
from workloads.contract import Failure, RunFailed

FRAMES = 50


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "talk.mp4")


def told(path: Path, faces: Sequence[Any], **more: Any) -> Path:
    path.write_text(json.dumps({"fps": 25, "faces": faces, **more}))
    return path


def head(face: int) -> Found:
    """As the cascades draw it around a face: the mouth at 0.82 of its height."""
    x, y = place(face)
    return Found((x - 38.0, y - 0.82 * 76, 76.0, 76.0))


def finding(boxes: Callable[[int], list[Found]]) -> mouths.Finder:
    """A finder that knows; it is asked every fifth picture."""
    asked = iter(range(0, 10_000, mouths.NEARBY))

    def finder(grey: Any, near: Sequence[Box]) -> list[Found]:
        found = boxes(next(asked))
        return [one for one in found if not near or any(overlap(one.box, box) > 0.2 for box in near)]

    return finder


def openness(track: Track) -> Any:
    """How dark the middle of each mouth picture is."""
    return -track.mouths[:, 15:33, 20:28].mean(axis=(1, 2))


# --- boxes and landmarks -------------------------------------------------------------------------------------------


def test_mouths_follow_the_lips_of_their_own_face(tmp_path: Path, talk: Path) -> None:
    boxes = [[mouth_box(face)] * FRAMES for face in range(2)]
    tracks = tracks_of(talk, landmarks=told(tmp_path / "boxes.json", boxes))
    assert [track.name for track in tracks] == ["face-1", "face-2"]
    for face, track in enumerate(tracks):
        assert track.pictures.shape == (FRAMES, 48, 48)
        assert track.mouths.dtype == np.float32
        assert track.mouths.max() <= 1
        assert track.seen.all()
        truth = [opening(frame, face) for frame in range(FRAMES)]
        other = [opening(frame, 1 - face) for frame in range(FRAMES)]
        assert np.corrcoef(openness(track), truth)[0, 1] > 0.95
        assert abs(np.corrcoef(openness(track), other)[0, 1]) < 0.5


def test_a_mouth_fills_two_thirds_of_its_picture() -> None:
    grey = np.full((200, 300), 200, np.uint8)
    grey[95:105, 120:180] = 20  # 60 px wide
    wide = cut(grey, 150, 100, 60 / mouths.SHARE)
    assert (wide[24] < 110).sum() == pytest.approx(48 * mouths.SHARE, abs=1.5)


@pytest.mark.parametrize("angle", [0.3, -0.5])
def test_a_turned_face_gives_an_upright_mouth(angle: float) -> None:
    y, x = np.mgrid[:200, :200] - 100.0
    down = -np.sin(angle) * x + np.cos(angle) * y
    grey = np.where(down > 0, 200, 50).astype(np.uint8)  # dark above, light below, along the face's own axis
    upright = cut(grey, 100.5, 100.5, 60, angle)
    assert upright[:22].max() < 60
    assert upright[26:].min() > 190


def test_a_picture_made_smaller_is_the_mean_of_what_it_covers() -> None:
    grey = np.zeros((400, 400), np.uint8)
    grey[::2] = 200  # stripes that every second pixel would miss or hit
    assert abs(float(cut(grey, 200, 200, 192).mean()) - 100) < 4
    assert cut(grey, 200, 200, 192).std() < 30


def landmarks(face: int, count: int) -> list[list[float]]:
    """Eyes and mouth of a drawn face; the rest of the points lie on its edge."""
    x, y = place(face)
    points = np.tile([x - 34.0, y - 70.0], (count, 1))
    points[1] = [x + 34, y + 24]
    eyes = (range(36, 42), range(42, 48)) if count == 68 else ((33, 133, 159, 145), (362, 263, 386, 374))
    lips = range(48, 68) if count == 68 else (61, 291, 0, 17, 13, 14, 37, 267, 84, 314)
    points[list(eyes[0])], points[list(eyes[1])] = [x - 17, y - 38], [x + 17, y - 38]
    points[list(lips)] = [x, y]
    left, right = (48, 54) if count == 68 else (61, 291)
    points[left], points[right] = [x - 13, y], [x + 13, y]
    return [[float(a), float(b)] for a, b in points]


@pytest.mark.parametrize("count", [68, 468, 478])
def test_landmarks_of_dlib_and_of_mediapipe_tell_where_a_mouth_is(tmp_path: Path, talk: Path, count: int) -> None:
    faces = [[landmarks(face, count)] * 10 for face in range(2)]
    tracks = tracks_of(talk, landmarks=told(tmp_path / "points.json", faces))
    for face, track in enumerate(tracks):
        assert track.seen.tolist() == [1] * 10 + [0] * 40
        truth = [opening(frame, face) for frame in range(10)]
        assert np.corrcoef(openness(track)[:10], truth)[0, 1] > 0.95


def test_landmarks_may_be_shares_of_the_picture(tmp_path: Path, talk: Path) -> None:
    shares = [(np.array(landmarks(0, 478)) / [192, 128]).tolist()]
    a = tracks_of(talk, landmarks=told(tmp_path / "shares.json", [shares * 5], normalised=True))
    b = tracks_of(talk, landmarks=told(tmp_path / "pixels.json", [[landmarks(0, 478)] * 5]))
    np.testing.assert_array_equal(a[0].pictures, b[0].pictures)


def test_boxes_at_another_rate_are_taken_at_their_times(tmp_path: Path, talk: Path) -> None:
    half = [mouth_box(0)] * 50 + [None] * 50  # at 50 a second
    tracks = tracks_of(talk, landmarks=told(tmp_path / "fast.json", [half], fps=50))
    assert tracks[0].seen.tolist() == [1] * 25 + [0] * 25
    assert not tracks[0].pictures[25:].any()
    assert np.isnan(tracks[0].boxes[30]).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1, 2]", "faces"),
        ('{"faces": [3]}', "faces"),
        ('{"faces": []}', "0 faces"),
        ('{"fps": 0, "faces": [[null]]}', "fps is '0'"),
        ('{"faces": [[[1, 2, 3]]]}', "face 1, frame 0: wants null"),
        ('{"faces": [[null, [5, 5, 5, 9]]]}', "face 1, frame 1: wants left < right"),
        ('{"faces": [[["a", 2, 3, 4]]]}', "face 1, frame 0"),
        ('{"faces": [[[1, 2, 3, 1e999]]]}', "no places in a picture"),
        ('{"faces": [[[[1, 2], [3]]]]}', "face 1, frame 0"),
        (json.dumps({"faces": [[[[5, 5]] * 68]]}), "at one place"),
    ],
)
def test_landmarks_that_are_none_are_refused_by_face_and_frame(
    tmp_path: Path, talk: Path, content: str, said: str
) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(RunFailed, match=said) as refused:
        tracks_of(talk, landmarks=tmp_path / "bad.json")
    assert refused.value.kind is Failure.DATA_MALFORMED


def test_landmarks_that_are_not_there_are_missed(talk: Path) -> None:
    with pytest.raises(RunFailed) as refused:
        tracks_of(talk, landmarks="/nowhere/boxes.json")
    assert refused.value.kind is Failure.DATA_MISSING


# --- following faces -----------------------------------------------------------------------------------------------


def test_faces_are_named_from_left_to_right_in_whatever_order_they_are_found(talk: Path) -> None:
    tracks = tracks_of(talk, finder=finding(lambda _: [head(1), head(0)]))
    assert [track.name for track in tracks] == ["face-1", "face-2"]
    assert np.nanmean(tracks[0].boxes[:, 0]) < np.nanmean(tracks[1].boxes[:, 0])
    for face, track in enumerate(tracks):
        assert np.corrcoef(openness(track)[:45], [opening(frame, face) for frame in range(45)])[0, 1] > 0.9


def test_a_face_that_goes_and_comes_back_is_one_face_and_not_seen_in_between(tmp_path: Path) -> None:
    path = film(tmp_path / "talk.mp4", seconds=6.0)
    tracks = tracks_of(path, finder=finding(lambda at: [head(0)] + ([head(1)] if not 40 <= at < 100 else [])))
    assert [track.name for track in tracks] == ["face-1", "face-2"]
    assert tracks[0].seen[:146].all()
    assert tracks[1].seen[:36].all()
    assert not tracks[1].seen[40:100].any()
    assert tracks[1].seen[100:146].all()
    assert not tracks[1].pictures[50].any()


def test_a_pattern_that_looks_like_a_face_for_a_moment_is_none(talk: Path) -> None:
    ghost = Found((120.0, 10.0, 50.0, 50.0))
    tracks = tracks_of(talk, finder=finding(lambda at: [head(0)] + ([ghost] if at == 25 else [])))
    assert len(tracks) == 1


def test_of_more_faces_than_voices_those_are_kept_that_are_seen_most(talk: Path) -> None:
    tracks = tracks_of(talk, speakers=1, finder=finding(lambda at: [head(1)] + ([head(0)] if at < 30 else [])))
    assert [track.name for track in tracks] == ["face-1"]
    assert np.nanmean(tracks[0].boxes[:, 0]) > 60


def test_a_mouth_is_not_followed_from_one_scene_into_the_next(tmp_path: Path) -> None:
    dark = [np.full((128, 192), 5, np.uint8)] * 50
    path = film(tmp_path / "cut.mp4", seconds=4.0, pictures=[scene(at, 1) for at in range(50)] + dark)
    tracks = tracks_of(path, finder=finding(lambda at: [head(0)] if at < 50 else [head(1)]))
    assert len(tracks) == 2
    assert not (tracks[0].seen * tracks[1].seen).any()


def test_a_film_without_faces_has_no_tracks(talk: Path) -> None:
    assert tracks_of(talk, finder=finding(lambda _: [])) == []


def test_the_mouths_of_a_long_film_wait_on_disk(tmp_path: Path, talk: Path) -> None:
    here = tracks_of(talk, finder=finding(lambda _: [head(0)]))
    there = tracks_of(talk, finder=finding(lambda _: [head(0)]), keep_in=tmp_path)
    assert isinstance(there[0].pictures, np.memmap)
    np.testing.assert_array_equal(here[0].pictures, there[0].pictures)


def test_part_of_a_track_is_filled_up_where_the_film_has_ended(talk: Path) -> None:
    track = tracks_of(talk, finder=finding(lambda _: [head(0)]))[0]
    lips, seen = track.part(40, 60)
    assert lips.shape == (20, 48, 48)
    np.testing.assert_array_equal(lips[:5], track.mouths[40:45])
    assert not lips[10:].any()
    assert not seen[10:].any()


def test_without_opencv_it_says_what_to_install(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(RunFailed, match="opencv-python-headless") as refused:
        tracks_of(talk)
    assert refused.value.kind is Failure.NOT_INSTALLED


def test_an_opencv_without_cascades_is_named(talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        __version__ = "5.0.0"

    monkeypatch.setitem(sys.modules, "cv2", Bare())
    with pytest.raises(RunFailed, match=r"5\.0\.0 comes without cascades"):
        tracks_of(talk)


def test_the_cascades_find_a_face_and_nothing_in_a_plain_picture() -> None:
    pytest.importorskip("cv2")
    finder = mouths.Cascades()
    assert finder(np.full((360, 640), 128, np.uint8), []) == []
    found = finder(drawn_face(), [])
    assert len(found) == 1
    (left, top, width, height), turned = found[0]
    assert turned == 0
    assert abs(left + width / 2 - 300) < 20
    assert top < 150 < 250 < top + height
    again = finder(drawn_face(), [found[0].box])
    assert overlap(again[0].box, found[0].box) > 0.7


def drawn_face() -> Any:
    """A face as the cascades know it: eyes darker than cheeks and brow, a bright nose between them, a dark mouth."""
    from scipy.ndimage import gaussian_filter

    y, x = np.mgrid[:400, :600].astype(float)
    x, y = x - 300, y - 200
    picture = np.full((400, 600), 90.0)
    picture[(x / 95) ** 2 + (y / 125) ** 2 < 1] = 190
    picture[((x / 100) ** 2 + (y / 130) ** 2 < 1) & (y < -85)] = 40
    for side in (-38, 38):
        picture[((x - side) / 28) ** 2 + ((y + 25) / 13) ** 2 < 1] = 70
        picture[((x - side) / 30) ** 2 + ((y + 48) / 5) ** 2 < 1] = 60
    picture[(np.abs(x) < 10) & (y > -30) & (y < 25)] = 215
    picture[(x / 20) ** 2 + ((y - 32) / 7) ** 2 < 1] = 120
    picture[(x / 36) ** 2 + ((y - 68) / 9) ** 2 < 1] = 90
    return gaussian_filter(picture, 4).astype(np.uint8)
