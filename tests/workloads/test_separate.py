"""`separate` writes a track and a film of each face, as long and as loud as the film, and says what it did not see."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.workloads.films import film, mouth_box, scene, speech
from workloads.av_separation import loudness, media, separate
from workloads.av_separation.config import Separate
from workloads.av_separation.model import Separator, build, load, parameters, save_weights
from workloads.av_separation.mouths import tracks_of
from workloads.av_separation.separate import run_separate
from workloads.contract import Failure, Measured, Report, RunFailed, Unavailable


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Told:
    """A run that remembers what it hears."""

    resume = None

    def __init__(self, out: Path) -> None:
        self.out = out
        out.mkdir()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.steps: list[tuple[float, float, str]] = []
        self.checks = 0
        self.cancel_at = 10**9

    def event(self, name: str, **fields: Any) -> None:
        json.dumps(fields)
        self.events.append((name, fields))

    def progress(self, done: float, total: float, unit: str, **figures: float) -> None:
        self.steps.append((done, total, unit))

    def metric(self, name: str, value: float, step: int, unit: str = "") -> None:
        raise AssertionError("a film has no curve")

    def check(self) -> None:
        self.checks += 1
        if self.checks >= self.cancel_at:
            raise RunFailed(Failure.CANCELLED, "cancelled")


@dataclasses.dataclass(frozen=True)
class Studio:
    film: Path
    boxes: Path
    weights: Path


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Two faces for three seconds; the right one turns away from 1.0 to 2.0 s."""
    where = tmp_path_factory.mktemp("studio")
    torch.manual_seed(0)
    save_weights(build("tiny"), where / "tiny.safetensors", "tiny")
    away = [None if 25 <= at < 50 else mouth_box(1) for at in range(75)]
    (where / "boxes.json").write_text(json.dumps({"faces": [[mouth_box(0)] * 75, away]}))
    return Studio(film(where / "talk.mp4", seconds=3.0), where / "boxes.json", where / "tiny.safetensors")


def config(studio: Studio, **more: Any) -> Separate:
    plain = Separate(input=str(studio.film), checkpoint=str(studio.weights), landmarks=str(studio.boxes), device="cpu")
    return dataclasses.replace(plain, **more)


@pytest.fixture(scope="module")
def done(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Told]:
    run = Told(tmp_path_factory.mktemp("runs") / "done")
    return run_separate(config(studio), run), run


def offline(studio: Studio) -> tuple[Separator, Any]:
    """The voices of the whole film at once, (voices, samples)."""
    model = load(studio.weights)
    tracks = tracks_of(studio.film, landmarks=studio.boxes)
    mixture = media.read_audio(studio.film)
    with torch.inference_mode():
        voices = model(
            torch.from_numpy(mixture)[None],
            torch.from_numpy(np.stack([track.mouths for track in tracks]))[None],
            torch.from_numpy(np.stack([track.seen for track in tracks]))[None],
        )
    return model, voices[0].numpy()


def test_each_face_gets_a_track_and_a_film_as_long_as_the_film(studio: Studio, done: tuple[Report, Told]) -> None:
    report, run = done
    samples = len(media.read_audio(studio.film))
    for name in ("face-1", "face-2"):
        assert report.artefacts[f"{name}.wav"] == f"{name}.wav"
        told = soundfile.info(run.out / f"{name}.wav")
        assert (told.samplerate, told.channels, told.frames) == (16_000, 1, samples)
        seen = media.describe(run.out / f"{name}.mp4")
        assert (seen.width, seen.height) == (192, 128)
        assert seen.picture_s == pytest.approx(3.0, abs=0.05)
        heard, voice = media.read_audio(run.out / f"{name}.mp4"), media.read_audio(run.out / f"{name}.wav")
        assert abs(len(heard) - len(voice)) <= 1024
        count = min(len(heard), len(voice))
        assert np.corrcoef(heard[:count], voice[:count])[0, 1] > 0.98  # in step to the sample
    assert not (run.out / ".scratch").exists()
    assert sorted(path.name for path in run.out.iterdir()) == sorted(
        ["face-1.mp4", "face-1.wav", "face-2.mp4", "face-2.wav", "heal-observations", "spectrograms.svg"]
    )


def test_the_voices_are_those_of_the_whole_film_at_once(studio: Studio, tmp_path: Path) -> None:
    run = Told(tmp_path / "run")
    run_separate(config(studio, loudness=False, video=False, picture=False, chunk=0.5), run)
    _, voices = offline(studio)
    for name, voice in zip(("face-1", "face-2"), voices, strict=True):
        np.testing.assert_allclose(media.read_audio(run.out / f"{name}.wav"), voice, atol=2e-4)
    assert not list(run.out.glob("*.mp4"))
    assert not list(run.out.glob("*.svg"))


def test_each_voice_is_as_loud_as_the_film_was(studio: Studio, done: tuple[Report, Told]) -> None:
    report, run = done
    wanted = loudness.loudness(media.read_audio(studio.film))
    for name in ("face-1", "face-2"):
        heard = media.read_audio(run.out / f"{name}.wav")
        assert loudness.loudness(heard) == pytest.approx(wanted, abs=0.5)
        assert loudness.true_peak(heard) < 10 ** (-0.9 / 20)
        assert report.metrics[f"{name}.loudness"] == Measured(round(loudness.loudness(heard), 2), "LUFS")
    assert report.metrics["input_loudness"] == Measured(round(wanted, 2), "LUFS")


def test_two_runs_write_the_same_bytes(studio: Studio, done: tuple[Report, Told], tmp_path: Path) -> None:
    run = Told(tmp_path / "again")
    run_separate(config(studio), run)
    for name in ("face-1.wav", "face-2.wav", "spectrograms.svg"):
        assert (run.out / name).read_bytes() == (done[1].out / name).read_bytes()


def test_it_says_when_a_face_was_not_seen(done: tuple[Report, Told]) -> None:
    report, run = done
    assert report.metrics["lips_missing_rate"] == Measured(pytest.approx(25 / 150, abs=0.015))
    assert "face-2 was not seen between 1.0 s and 2.0 s: separated by sound alone" in report.notes
    assert ("lips_missing", {"what": "face-2 was not seen", "from_s": 1.0, "to_s": 2.0}) in run.events


def test_what_cannot_be_measured_without_clean_voices_is_not_told(done: tuple[Report, Told]) -> None:
    report, _ = done
    for name in ("si_snri", "sdri", "pesq", "stoi"):
        assert isinstance(report.metrics[name], Unavailable)
    for name in ("real_time_factor", "real_time_factor_model", "real_time_factor_faces"):
        found = report.metrics[name]
        assert isinstance(found, Measured)
        assert found.value > 0
    told = report.metrics["duration"]
    assert isinstance(told, Measured)
    assert told.value == pytest.approx(3.0, abs=0.07)  # a frame of AAC


def test_the_input_snr_is_that_of_the_voice_to_all_the_rest(studio: Studio, done: tuple[Report, Told]) -> None:
    report, _ = done
    mixture = media.read_audio(studio.film)
    for name, voice in zip(("face-1", "face-2"), offline(studio)[1], strict=True):
        told = report.metrics[f"{name}.input_snr_estimated"]
        assert isinstance(told, Measured)
        expected = 10 * np.log10(np.square(voice).sum() / np.square(mixture - voice).sum())
        assert told.value == pytest.approx(expected, abs=0.02)


def test_what_went_in_is_kept_for_the_drift_detector(done: tuple[Report, Told]) -> None:
    report, run = done
    rows = json.loads((run.out / report.artefacts["observations"]).read_text())["rows"]
    assert rows[0]["speakers"] == 2
    assert rows[0]["lips_missing_rate"] == pytest.approx(25 / 150, abs=0.015)
    assert report.drift["role"] == "current"


def test_progress_runs_once_through_the_film(done: tuple[Report, Told]) -> None:
    _, run = done
    shares = [at / total for at, total, unit in run.steps if unit == "s"]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0, abs=0.02)
    assert run.checks >= 3


def test_a_cancelled_run_leaves_nothing_but_what_is_whole(studio: Studio, tmp_path: Path) -> None:
    run = Told(tmp_path / "run")
    run.cancel_at = 2
    with pytest.raises(RunFailed) as ended:
        run_separate(config(studio), run)
    assert ended.value.kind is Failure.CANCELLED
    assert list(run.out.iterdir()) == []


def test_a_film_without_faces_is_separated_by_sound_alone_and_says_so(studio: Studio, tmp_path: Path) -> None:
    run = Told(tmp_path / "run")
    plain = config(studio, landmarks="", speakers=2, picture=False)
    report = run_separate(plain, run, finder=lambda grey, near: [])
    assert "no face was found: separated by sound alone" in report.notes
    assert ("sound_alone", {"why": "no face was found"}) in run.events
    assert {"voice-1.wav", "voice-2.wav", "voice-1.mp4", "voice-2.mp4"} <= set(report.artefacts)
    assert report.metrics["lips_missing_rate"] == Measured(1.0)
    assert report.metrics["faces"] == Measured(0)


def test_a_photograph_of_a_face_is_no_moving_lips(studio: Studio, tmp_path: Path) -> None:
    path = film(tmp_path / "photo.mp4", pictures=[scene(10)] * 75, seconds=3.0)
    run = Told(tmp_path / "run")
    report = run_separate(config(studio, input=str(path), video=False, picture=False), run)
    for name in ("face-1", "face-2"):
        assert f"{name} does not move, as a photograph: separated by sound alone" in report.notes
    assert report.metrics["lips_missing_rate"] == Measured(1.0)
    assert not any("between" in note for note in report.notes)


def test_a_sound_file_gives_tracks_and_no_films(studio: Studio, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", speech(1.0) + speech(1.0, 190, seed=1), 16_000)
    run = Told(tmp_path / "run")
    report = run_separate(
        config(studio, input=str(tmp_path / "talk.wav"), landmarks="", speakers=2, picture=False), run
    )
    assert "there are no pictures: separated by sound alone" in report.notes
    assert sorted(path.name for path in run.out.glob("voice*")) == ["voice-1.wav", "voice-2.wav"]
    assert isinstance(report.metrics["real_time_factor_faces"], Unavailable)


def test_a_voice_without_a_face_is_named_for_what_it_is(studio: Studio, tmp_path: Path) -> None:
    run = Told(tmp_path / "run")
    report = run_separate(config(studio, speakers=3, video=False, picture=False), run)
    assert {"face-1.wav", "face-2.wav", "voice-3.wav"} <= set(report.artefacts)
    assert "of 3 voices 2 have a face: the others are separated by sound alone" in report.notes


def test_without_opencv_a_number_of_voices_is_enough(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    plain = config(studio, landmarks="", video=False, picture=False)
    with pytest.raises(RunFailed) as refused:
        run_separate(plain, Told(tmp_path / "none"))
    assert refused.value.kind is Failure.NOT_INSTALLED
    report = run_separate(dataclasses.replace(plain, speakers=2), Told(tmp_path / "two"))
    assert any("opencv-python-headless" in note and "by sound alone" in note for note in report.notes)


def test_pictures_that_cannot_be_decoded_leave_the_sound(studio: Studio, tmp_path: Path) -> None:
    content = bytearray(studio.film.read_bytes())
    with media.av.open(str(studio.film)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for at, size in places:
        content[at : at + size] = bytes(size)
    (tmp_path / "damaged.mp4").write_bytes(content)
    plain = config(studio, input=str(tmp_path / "damaged.mp4"), landmarks="", speakers=2, picture=False)
    report = run_separate(plain, Told(tmp_path / "run"), finder=lambda grey, near: [])
    assert {"voice-1.wav", "voice-2.wav"} <= set(report.artefacts)
    assert any("by sound alone" in note for note in report.notes)


@pytest.mark.parametrize(
    ("more", "kind", "said"),
    [
        ({"input": ""}, Failure.BAD_SETTING, "input"),
        ({"input": "/nowhere/talk.mp4"}, Failure.DATA_MISSING, "talk.mp4: there is no such file"),
        ({"checkpoint": "/nowhere/run"}, Failure.DATA_MISSING, "weights"),
        ({"most_minutes": 0.02}, Failure.DATA_MALFORMED, "most_minutes"),
        ({"landmarks": "/nowhere/boxes.json", "speakers": 2}, Failure.DATA_MISSING, "boxes.json"),
    ],
)
def test_what_cannot_be_done_is_said(
    studio: Studio, tmp_path: Path, more: dict[str, Any], kind: Failure, said: str
) -> None:
    run = Told(tmp_path / "run")
    with pytest.raises(RunFailed, match=said) as refused:
        run_separate(config(studio, **more), run)
    assert refused.value.kind is kind
    assert list(run.out.iterdir()) == []


def test_a_film_without_faces_and_without_a_number_of_voices_asks_for_it(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="speakers"):
        run_separate(config(studio, landmarks=""), Told(tmp_path / "run"), finder=lambda grey, near: [])


def test_a_silent_film_has_nothing_to_separate(studio: Studio, tmp_path: Path) -> None:
    path = film(tmp_path / "silent.mp4", sound=np.zeros(0))
    with pytest.raises(RunFailed, match="has no sound"):
        run_separate(config(studio, input=str(path)), Told(tmp_path / "run"))


def test_silence_stays_silent_and_is_said_to_be(studio: Studio, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(16_000, np.float32), 16_000)
    run = Told(tmp_path / "run")
    report = run_separate(
        config(studio, input=str(tmp_path / "quiet.wav"), landmarks="", speakers=2, picture=False), run
    )
    assert any("voice-1 is silent" in note for note in report.notes)
    assert isinstance(report.metrics["input_loudness"], Unavailable)
    assert np.abs(media.read_audio(run.out / "voice-1.wav")).max() < 1e-3


def test_a_film_in_the_run_s_own_folder_is_not_overwritten(studio: Studio, tmp_path: Path) -> None:
    run = Told(tmp_path / "run")
    film = run.out / "face-1.mp4"
    film.write_bytes(studio.film.read_bytes())
    with pytest.raises(RunFailed, match="name another folder") as refused:
        run_separate(config(studio, input=str(film)), run)
    assert refused.value.kind is Failure.BAD_SETTING
    assert film.read_bytes() == studio.film.read_bytes()


def test_a_run_s_folder_gives_its_weights(studio: Studio, tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_weights(build("tiny"), tmp_path / "model.safetensors", "tiny")
    assert separate.weights_of(str(tmp_path))[1] == tmp_path.name
    (tmp_path / "none").mkdir()
    with pytest.raises(RunFailed, match="no weights"):
        separate.weights_of(str(tmp_path / "none"))


def test_the_bundled_weights_say_what_they_know() -> None:
    model, told = separate.weights_of("")
    assert parameters(model) == parameters(build("tiny"))
    assert "drawn mouths only" in told
