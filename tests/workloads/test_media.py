"""Somebody's films come in at one rate, or are refused with a sentence; what goes out is in step and as loud."""

import os
import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from tests.workloads.films import film, scene, speech
from workloads.av_separation import loudness, media
from workloads.av_separation.media import RATE, Limits
from workloads.contract import Failure, RunFailed


def strongest(sound: Any) -> float:
    """The frequency with most power, Hz."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum) * RATE / len(sound))


def lag(one: Any, other: Any) -> int:
    """By how many samples `one` comes after `other`."""
    count = min(len(one), len(other))
    both = np.fft.rfft(one[:count], 2 * count) * np.conj(np.fft.rfft(other[:count], 2 * count))
    found = int(np.argmax(np.fft.irfft(both)))
    return found if found < count else found - 2 * count


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("film") / "talk.mp4")


# --- sound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_any_rate_and_any_channels_become_16_khz_mono(tmp_path: Path, rate: int) -> None:
    at = np.arange(rate) / rate
    left = 0.4 * np.sin(2 * np.pi * 1000 * at)
    soundfile.write(tmp_path / "a.wav", np.stack([left, 0.5 * left], axis=1), rate)
    sound = media.read_audio(tmp_path / "a.wav")
    assert sound.dtype == np.float32
    assert abs(len(sound) - RATE) <= 1
    assert strongest(sound) == pytest.approx(1000, abs=2)
    assert np.abs(sound[2000:-2000]).max() == pytest.approx(0.3, abs=0.02)


def test_what_16_khz_cannot_hold_does_not_fold_back(tmp_path: Path) -> None:
    at = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "high.wav", 0.5 * np.sin(2 * np.pi * 11_000 * at), 48_000)
    assert np.abs(media.read_audio(tmp_path / "high.wav")[1000:-1000]).max() < 0.005


def test_sound_that_begins_late_is_preceded_by_silence(tmp_path: Path) -> None:
    path = film(tmp_path / "late.mp4", sound=speech(1.0), sound_from=0.5, seconds=2.0)
    sound = media.read_audio(path)
    assert np.abs(sound[: int(0.45 * RATE)]).max() < 1e-3
    assert abs(lag(sound, np.concatenate([np.zeros(RATE // 2, np.float32), speech(1.0)]))) <= 2


def test_numbers_that_are_none_are_silence(tmp_path: Path) -> None:
    sound = speech(1.0)
    sound[100:110] = np.nan
    sound[200:210] = np.inf
    soundfile.write(tmp_path / "nan.wav", sound, RATE, subtype="FLOAT")
    heard = media.read_audio(tmp_path / "nan.wav")
    assert np.isfinite(heard).all()
    np.testing.assert_allclose(heard[1000:], sound[1000:], atol=1e-6)


def test_a_long_sound_is_read_in_pieces(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.tile(speech(10.0), 3), RATE)
    told = media.describe(tmp_path / "long.wav")
    tracemalloc.start()
    count = sum(len(block) for block in media.sound_blocks(tmp_path / "long.wav", told))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 30 * RATE
    assert peak < 600_000  # the whole would take 1.9 MB


# --- pictures ------------------------------------------------------------------------------------------------------


def test_a_film_of_25_pictures_a_second_is_read_picture_by_picture(talk: Path) -> None:
    pictures = list(media.read_video(talk))
    assert [moment for moment, _, _ in pictures] == list(range(50))
    for moment, grey, off_s in pictures:
        assert off_s < 1e-3
        assert np.abs(grey.astype(float) - scene(moment)).mean() < 6


@pytest.mark.parametrize("fps", [12, 30, 60])
def test_another_rate_becomes_25_a_second_by_the_nearest_picture(tmp_path: Path, fps: int) -> None:
    pictures = [np.full((64, 64), 20 + 200 * at // fps, np.uint8) for at in range(fps)]  # brightness tells the time
    path = film(tmp_path / "rate.mp4", pictures=pictures, fps=fps, seconds=1.0)
    read = list(media.read_video(path))
    assert len(read) == 25
    for moment, grey, off_s in read:
        nearest = min(round(moment / 25 * fps), fps - 1)
        assert abs(float(grey.mean()) - (20 + 200 * nearest / fps)) < 200 / fps + 3
        assert off_s <= 0.5 / fps + 0.04


def test_pictures_at_uneven_times_keep_their_times(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.3, 0.34, 1.6, 1.64, 1.9]
    pictures = [np.full((64, 64), 20 + 25 * at, np.uint8) for at in range(len(times))]
    read = list(media.read_video(film(tmp_path / "vfr.mp4", pictures=pictures, times=times)))
    for moment, grey, off_s in read[:48]:
        nearest = int(np.argmin([abs(time - moment / 25) for time in times]))
        assert abs(float(grey.mean()) - (20 + 25 * nearest)) < 14
        assert off_s == pytest.approx(min(abs(time - moment / 25) for time in times), abs=0.002)
    assert max(off_s for _, _, off_s in read) > media.STILL_S  # nothing moved there: those lips are not seen


def test_every_fifth_moment_is_the_same_picture_as_when_all_are_read(talk: Path) -> None:
    video = media.read_video(talk)
    whole = list(video)
    for moment, grey, _ in video.every(5):
        np.testing.assert_array_equal(grey, whole[moment].grey)


def test_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    path = film(tmp_path / "wide.mp4", pictures=[np.full((540, 1440), 128, np.uint8)] * 3)
    video = media.read_video(path)
    assert next(iter(video)).grey.shape == (360, 960)
    assert video.scale == pytest.approx(2 / 3)


# --- what is refused -----------------------------------------------------------------------------------------------


def _text(path: Path) -> Path:
    path.write_text("this is a letter, not a film\n" * 50)
    return path


def _playlist(path: Path) -> Path:
    """Names another file, which a player would open."""
    other = film(path.with_name("private.mp4"))
    path = path.with_suffix(".m3u8")
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n")
    return path


def _script(path: Path) -> Path:
    path.write_text(f"ffconcat version 1.0\nfile '{film(path.with_name('private.mp4'))}'\n")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _link(path: Path) -> Path:
    path.symlink_to(film(path.with_name("there.mp4")))
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _without_end(path: Path) -> Path:
    whole = film(path.with_name("whole.mp4")).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _cut_off(path: Path) -> Path:
    whole = film(path.with_name("whole.mp4"), seconds=6, options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def _rare(path: Path) -> Path:
    return film(path.with_suffix(".avi"), codec="ffvhuff", sound_codec="pcm_s16le")


def _head(path: Path) -> Path:
    path.write_bytes(film(path.with_name("whole.mp4")).read_bytes()[:32])
    return path


def _damaged(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    return path


HOSTILE = [
    (lambda path: path, Failure.DATA_MISSING, "no such file"),
    (_empty, Failure.DATA_MALFORMED, "is empty"),
    (_folder, Failure.DATA_MALFORMED, "no regular file"),
    (_link, Failure.DATA_MALFORMED, "is a link"),
    (_pipe, Failure.DATA_MALFORMED, "no regular file"),
    (_text, Failure.DATA_MALFORMED, "convert it"),
    (_damaged, Failure.DATA_MALFORMED, "convert it"),
    (_playlist, Failure.DATA_MALFORMED, "convert it"),
    (_script, Failure.DATA_MALFORMED, "a playlist"),
    (_without_end, Failure.DATA_MALFORMED, "cut off"),
    (_head, Failure.DATA_MALFORMED, "cut off"),
    (_cut_off, Failure.DATA_MALFORMED, "is cut off: it says"),
    (_rare, Failure.DATA_MALFORMED, "codec that is not taken"),
]


@pytest.mark.parametrize(("make", "kind", "said"), HOSTILE, ids=lambda of: getattr(of, "__name__", ""))
def test_what_is_no_film_is_refused_with_a_sentence(tmp_path: Path, make: Any, kind: Failure, said: str) -> None:
    path = make(tmp_path / "film.mp4")
    with pytest.raises(RunFailed, match=said) as refused:
        media.describe(path)
    assert refused.value.kind is kind
    assert str(refused.value).startswith("film.")  # which file; never the whole path


def test_a_playlist_would_otherwise_open_the_film_that_it_names(tmp_path: Path) -> None:
    with av.open(str(_playlist(tmp_path / "film.m3u8"))) as container:
        assert container.format.name == "hls"
        assert len(container.streams) == 2


def test_a_film_of_too_many_pixels_is_refused_before_one_is_decoded(talk: Path) -> None:
    with pytest.raises(RunFailed, match="192 × 128") as refused:
        media.describe(talk, Limits(pixels=10_000))
    assert refused.value.kind is Failure.DATA_MALFORMED


def test_a_film_that_is_too_long_is_refused(talk: Path) -> None:
    with pytest.raises(RunFailed, match="most_minutes"):
        media.describe(talk, Limits(seconds=1.0))


def test_a_film_that_claims_years_is_refused(tmp_path: Path) -> None:
    path = film(tmp_path / "years.mkv", pictures=[scene(0), scene(1)], times=[0.0, 2_000_000.0])
    with pytest.raises(RunFailed, match="longer than"):
        media.describe(path)


def test_a_silent_film_has_no_sound_to_read(tmp_path: Path) -> None:
    path = film(tmp_path / "silent.mp4", sound=np.zeros(0))
    assert media.describe(path).sound_s == 0
    with pytest.raises(RunFailed, match="no sound"):
        media.read_audio(path)


def test_a_sound_file_has_no_pictures_to_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speech(1.0), RATE)
    with pytest.raises(RunFailed, match="no pictures"):
        media.read_video(tmp_path / "a.wav")


def test_damaged_pictures_are_passed_over_and_time_goes_on(tmp_path: Path, talk: Path) -> None:
    content = bytearray(talk.read_bytes())
    begin = content.index(b"mdat") + 8
    rng = np.random.default_rng(1)
    for at in rng.integers(begin + 2000, begin + (len(content) - begin) // 2, 300):
        content[at] ^= int(rng.integers(1, 256))
    (tmp_path / "damaged.mp4").write_bytes(content)
    video = media.read_video(tmp_path / "damaged.mp4")
    assert [moment for moment, _, _ in video] == list(range(50))
    assert abs(len(media.read_audio(tmp_path / "damaged.mp4")) - 2 * RATE) <= 1024


def test_any_damage_gives_a_film_or_a_sentence(tmp_path: Path) -> None:
    """Sixty films with bytes changed and ends missing: never another error."""
    films = [film(tmp_path / "a.mp4", seconds=0.4), film(tmp_path / "b.mkv", seconds=0.4)]
    rng = np.random.default_rng(0)
    told = []
    for at in range(60):
        content = bytearray(films[at % 2].read_bytes())
        first, last = ((0, len(content)), (0, 2000), (len(content) - 2000, len(content)))[at % 3]
        for place in rng.integers(first, last, 30):
            content[place] = int(rng.integers(256))
        path = tmp_path / f"damaged{films[at % 2].suffix}"
        path.write_bytes(content[: len(content) if at % 5 else int(rng.integers(1, len(content)))])
        try:
            found = media.describe(path)
            assert sum(len(block) for block in media.sound_blocks(path, found)) < 60 * RATE
            assert sum(1 for _ in media.Video(path, found).every(5)) < 60
        except RunFailed as refused:
            told.append(refused.kind)
    assert set(told) == {Failure.DATA_MALFORMED}
    assert 5 < len(told) < 60


def test_no_space_left_is_told_as_that(tmp_path: Path, talk: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    media.write_wav(tmp_path / "one.wav", [speech(2.0)])
    with pytest.raises(RunFailed) as refused:
        media.write_mp4(Path("/dev/full"), talk, tmp_path / "one.wav")
    assert refused.value.kind is Failure.DISK_FULL


# --- out -----------------------------------------------------------------------------------------------------------


def test_a_film_with_another_sound_keeps_its_pictures_bit_by_bit_and_is_in_step(tmp_path: Path, talk: Path) -> None:
    sound = speech(2.0, 150, seed=3)
    media.write_wav(tmp_path / "one.wav", [sound])
    assert media.write_mp4(tmp_path / "one.mp4", talk, tmp_path / "one.wav") == "copied"
    with av.open(str(talk)) as before, av.open(str(tmp_path / "one.mp4")) as after:
        packets = [[bytes(p) for p in each.demux(video=0) if p.size] for each in (before, after)]
        assert packets[0] == packets[1]
        assert [stream.type for stream in after.streams] == ["video", "audio"]
    heard = media.read_audio(tmp_path / "one.mp4")
    assert abs(len(heard) - len(sound)) <= 1024  # a frame of AAC
    assert abs(lag(heard, sound)) <= 2


def test_pictures_that_an_mp4_does_not_take_are_encoded_at_their_times(tmp_path: Path) -> None:
    path = film(tmp_path / "old.avi", codec="mpeg2video", sound_codec="pcm_s16le")
    media.write_wav(tmp_path / "one.wav", [speech(2.0)])
    assert media.write_mp4(tmp_path / "one.mp4", path, tmp_path / "one.wav") == "encoded"
    told = media.describe(tmp_path / "one.mp4")
    assert (told.width, told.height) == (192, 128)
    assert told.picture_s == pytest.approx(2.0, abs=0.05)
    before, after = list(media.read_video(path)), list(media.read_video(tmp_path / "one.mp4"))
    assert np.mean([np.abs(a.grey.astype(float) - b.grey).mean() for a, b in zip(before, after, strict=True)]) < 4


def test_a_film_that_begins_later_is_in_step_with_its_sound(tmp_path: Path) -> None:
    times = [3 + at / 25 for at in range(50)]
    pictures = [scene(at) for at in range(50)]
    path = film(tmp_path / "later.mkv", pictures=pictures, times=times, sound_from=3.0)
    told = media.describe(path)
    assert told.start_s == pytest.approx(3.0, abs=0.1)
    assert told.seconds == pytest.approx(2.0, abs=0.15)
    sound = media.read_audio(path)
    media.write_wav(tmp_path / "one.wav", [sound])
    media.write_mp4(tmp_path / "one.mp4", path, tmp_path / "one.wav")
    assert media.describe(tmp_path / "one.mp4").start_s == pytest.approx(0.0, abs=0.05)
    assert abs(lag(media.read_audio(tmp_path / "one.mp4"), sound)) <= 2


@pytest.mark.parametrize("angle", [-90, 90])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_film_held_upright_in_a_phone_stays_upright(tmp_path: Path, angle: int, codec: str) -> None:
    upright = np.full((160, 96), 40, np.uint8)
    upright[:40] = 200
    stored = np.ascontiguousarray(np.rot90(upright, 1 if angle < 0 else -1))
    path = film(tmp_path / "phone.mov", pictures=[stored] * 10, seconds=0.4, turned=angle, codec=codec)
    media.write_wav(tmp_path / "one.wav", [speech(0.4)])
    how = media.write_mp4(tmp_path / "one.mp4", path, tmp_path / "one.wav")
    assert how == ("copied" if codec == "libx264" else "encoded")
    for each in (path, tmp_path / "one.mp4"):
        video = media.read_video(each)
        assert (video.media.width, video.media.height) == (96, 160)
        np.testing.assert_allclose(next(iter(video)).grey, upright, atol=40)


# --- loudness ------------------------------------------------------------------------------------------------------


def test_the_weighting_is_that_of_the_recommendation_at_48_khz() -> None:
    shelf, high_pass = loudness.k_weighting(48_000)
    np.testing.assert_allclose(shelf[:3], [1.53512485958697, -2.69169618940638, 1.19839281085285], atol=1e-8)
    np.testing.assert_allclose(shelf[4:], [-1.69065929318241, 0.73248077421585], atol=1e-8)
    np.testing.assert_allclose(high_pass[4:], [-1.99004745483398, 0.99007225036621], atol=1e-8)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_tone_at_full_scale_has_the_loudness_of_the_recommendation(rate: int) -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate).astype(np.float32)
    assert loudness.loudness(tone, rate) == pytest.approx(-3.01, abs=0.1)


def test_pauses_do_not_make_a_sound_less_loud() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 997 * np.arange(10 * RATE) / RATE).astype(np.float32)
    with_pauses = np.concatenate([tone, np.zeros_like(tone), 0.01 * tone])
    assert loudness.loudness(with_pauses) == pytest.approx(loudness.loudness(tone), abs=0.1)


def test_loudness_is_the_same_in_pieces() -> None:
    sound, meter = speech(3.0), loudness.Loudness()
    for start in range(0, len(sound), 777):
        meter.add(sound[start : start + 777])
    assert meter.value() == pytest.approx(loudness.loudness(sound), abs=1e-9)
    assert loudness.loudness(np.zeros(RATE, np.float32)) == -np.inf
    assert loudness.loudness(sound[:100]) == -np.inf


def test_a_sound_turned_up_never_clips_not_even_between_its_samples() -> None:
    sound = speech(3.0)
    sound[RATE : RATE + 40] *= 4
    gain = 0.6 / float(np.abs(speech(3.0)).max())
    loud = np.concatenate(list(loudness.limited(sound, gain, block=10_000)))
    assert len(loud) == len(sound)
    assert loudness.true_peak(sound * np.float32(gain)) > 1.4
    assert loudness.true_peak(loud) <= 10 ** (-0.95 / 20)
    np.testing.assert_allclose(loud[: RATE // 2], sound[: RATE // 2] * gain, rtol=1e-5)  # elsewhere nothing changes
    np.testing.assert_allclose(np.concatenate(list(loudness.limited(sound, gain))), loud, atol=1e-6)


def test_a_voice_that_hardly_speaks_is_not_blown_up() -> None:
    assert loudness.matching_gain(-30.0, -23.0) == pytest.approx(10 ** (7 / 20))
    assert loudness.matching_gain(-70.0, -23.0) == pytest.approx(10 ** (loudness.MOST_GAIN_DB / 20))
    assert loudness.matching_gain(-np.inf, -23.0) == 1.0
