"""Mixtures made on the fly."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from workloads.av_separation.mixing import (
    RATE,
    SAMPLES_A_FRAME,
    Mixer,
    Mixing,
    coloured,
    decibels,
    hide,
    in_a_room,
    varied,
)
from workloads.contract import Failure, RunFailed


@dataclass
class Tone:
    """A voice that says one tone and shows one grey."""

    voice: str
    hertz: float
    frames: int = 100
    grey: int = 128

    def audio(self, first, frames):
        time = np.arange(first * SAMPLES_A_FRAME, (first + frames) * SAMPLES_A_FRAME) / RATE
        return (0.1 * np.sin(2 * np.pi * self.hertz * time)).astype(np.float32)

    def mouths(self, first, frames):
        return np.full((frames, 48, 48), self.grey, np.uint8)

    def seen(self, first, frames):
        return np.ones(frames, np.float32)


CLIPS = [Tone("low", 200), Tone("low", 300), Tone("high", 1000, grey=50), Tone("high", 1500, grey=60)]
PLAIN = Mixing(seconds=1.0, seed=3)


def tone_of(audio):
    """Where the spectrum is highest, in Hz."""
    return float(np.fft.rfftfreq(len(audio), 1 / RATE)[np.abs(np.fft.rfft(audio)).argmax()])


def test_an_example_is_a_pure_function_of_seed_and_index():
    full = replace(PLAIN, noise=0.5, reverb=0.5, missing=0.5, same_voice=0.5, vary=True)
    for index in (0, 7, 2**40):
        one, again = Mixer(CLIPS, full).example(index), Mixer(CLIPS, full).example(index)
        for name in ("mixture", "mouths", "seen", "clean"):
            assert np.array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(Mixer(CLIPS, full).example(0).mixture, Mixer(CLIPS, full).example(1).mixture)
    assert not np.array_equal(
        Mixer(CLIPS, full).example(0).mixture, Mixer(CLIPS, replace(full, seed=4)).example(0).mixture
    )


@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_shapes_and_types_are_as_agreed(speakers):
    example = Mixer(CLIPS, replace(PLAIN, speakers=speakers, noise=1.0, reverb=1.0)).example(5)
    assert example.mixture.shape == (RATE,)
    assert example.clean.shape == (speakers, RATE)
    assert example.mouths.shape == (speakers, 25, 48, 48)
    assert example.seen.shape == (speakers, 25)
    assert {example.mixture.dtype, example.clean.dtype, example.mouths.dtype, example.seen.dtype} == {np.dtype("f4")}
    assert 0 <= example.mouths.min() <= example.mouths.max() <= 1


def test_a_dry_mixture_is_the_sum_of_its_voices():
    example = Mixer(CLIPS, PLAIN).example(1)
    assert np.allclose(example.mixture, example.clean.sum(0), atol=1e-6)


def test_voices_differ_unless_one_is_to_be_mixed_with_itself():
    for index in range(30):
        apart = sorted(tone_of(voice) for voice in Mixer(CLIPS, PLAIN).example(index).clean)
        assert apart[0] < 500 < apart[1]
        alike = sorted(tone_of(voice) for voice in Mixer(CLIPS, replace(PLAIN, same_voice=1.0)).example(index).clean)
        assert alike in ([200, 300], [1000, 1500])


def test_each_mouth_belongs_to_its_voice():
    for index in range(10):
        example = Mixer(CLIPS, PLAIN).example(index)
        for voice, mouth in zip(example.clean, example.mouths, strict=True):
            grey = next(clip.grey for clip in CLIPS if clip.hertz == tone_of(voice))
            assert np.allclose(mouth, grey / 255)


def test_the_levels_are_as_far_apart_as_they_were_drawn():
    told = [Mixer(CLIPS, replace(PLAIN, snr_db=(-3, 9))).example(index) for index in range(60)]
    for example in told:
        assert decibels(example.clean[0], example.clean[1]) == pytest.approx(example.snr_db, abs=1e-3)
        assert -3.001 <= example.snr_db <= 9.001
    assert min(example.snr_db for example in told) < 0 < 6 < max(example.snr_db for example in told)


def test_nothing_is_louder_than_full_scale():
    loud = [Mixer(CLIPS, replace(PLAIN, snr_db=(40, 40), reverb=1.0, noise=1.0)).example(index) for index in range(10)]
    for example in loud:
        assert max(np.abs(example.mixture).max(), np.abs(example.clean).max()) <= 0.951


def test_the_snr_counts_the_noise():
    noisy = Mixer(CLIPS, replace(PLAIN, noise=1.0, noise_db=(0, 0), snr_db=(0, 0))).example(0)
    assert noisy.snr_db == pytest.approx(decibels(noisy.clean[0], noisy.mixture - noisy.clean[0]), abs=1e-3)
    assert noisy.snr_db < -3


def test_one_voice_alone_has_no_rest():
    assert Mixer(CLIPS, replace(PLAIN, speakers=1)).example(0).snr_db == math.inf


def test_in_a_room_the_target_stays_dry_and_in_time():
    dry, room = Mixer(CLIPS, PLAIN).example(2), Mixer(CLIPS, replace(PLAIN, reverb=1.0)).example(2)
    residue = room.mixture - room.clean.sum(0)
    assert np.abs(residue).max() > 0.1 * np.abs(room.mixture).max()
    assert np.allclose(room.clean / np.abs(room.clean).max(), dry.clean / np.abs(dry.clean).max(), atol=1e-4)


def test_a_room_keeps_the_direct_sound_and_answers_later():
    click = np.zeros((1, RATE), np.float32)
    click[0, 1000] = 1
    heard = in_a_room(click, np.random.default_rng(0))[0]
    assert not np.abs(heard[:1000]).max() > 1e-6
    assert heard[1000] == pytest.approx(1, abs=1e-5)
    assert not np.abs(heard[1001 : 1000 + 30]).max() > 1e-6
    early, late = np.sum(heard[1032:2600] ** 2), np.sum(heard[4000:5600] ** 2)
    assert early > 10 * late


def test_white_noise_is_flat_and_pink_falls_3_db_an_octave():
    def band(noise, low, high):
        hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
        return 10 * np.log10(np.mean(np.abs(np.fft.rfft(noise))[(hertz >= low) & (hertz < high)] ** 2))

    rng = np.random.default_rng(0)
    white, pink = coloured(RATE * 4, 0, rng), coloured(RATE * 4, 1, rng)
    assert band(white, 500, 1000) - band(white, 2000, 4000) == pytest.approx(0, abs=0.5)
    assert band(pink, 500, 1000) - band(pink, 2000, 4000) == pytest.approx(6, abs=0.5)


def test_hidden_lips_are_black_and_their_share_is_kept():
    examples = [Mixer(CLIPS, replace(PLAIN, missing=0.5, vary=True)).example(index) for index in range(100)]
    for example in examples:
        assert not example.mouths[example.seen == 0].any()
        assert example.mouths[example.seen == 1].all()
    hidden = np.mean([[not seen.all() for seen in example.seen] for example in examples])
    assert 0.4 < hidden < 0.6
    assert all(example.seen.all() for example in (Mixer(CLIPS, PLAIN).example(index) for index in range(20)))


def test_a_span_is_hidden_in_one_piece_even_of_a_single_frame():
    for frames in (1, 3, 50):
        seen = np.ones(frames, np.float32)
        hide(seen, np.random.default_rng(1))
        gone = np.flatnonzero(seen == 0)
        assert len(gone) >= min(5, frames)
        assert np.array_equal(gone, np.arange(gone[0], gone[-1] + 1))


def test_varied_pictures_move_together_and_stay_pictures():
    still = np.tile(np.linspace(0, 1, 48, dtype=np.float32), (4, 48, 1))
    moved = varied(still, np.random.default_rng(2))
    assert moved.shape == still.shape
    assert 0 <= moved.min() <= moved.max() <= 1
    assert all(np.array_equal(moved[0], frame) for frame in moved)
    assert not np.array_equal(moved, still)


def test_around_a_short_clip_it_is_silent_and_nobody_is_seen():
    example = Mixer([Tone("low", 200, frames=10), Tone("high", 999, frames=12)], PLAIN).example(0)
    assert example.mixture.shape == (RATE,)
    assert sorted(example.seen.sum(1)) == [10, 12]
    for voice, seen in zip(example.clean, example.seen, strict=True):
        heard = np.abs(voice).reshape(25, -1).max(1) > 1e-6
        assert np.array_equal(heard, seen.astype(bool))


def test_a_crop_in_which_nobody_speaks_is_drawn_again():
    class Late(Tone):
        def audio(self, first, frames):
            audio = super().audio(first, frames)
            audio[: max(0, 50 - first) * SAMPLES_A_FRAME] = 0
            return audio

    examples = [Mixer([Late("a", 300, frames=100), Tone("b", 900)], PLAIN).example(index) for index in range(30)]
    assert all(np.abs(example.clean).max(1).min() > 0.001 for example in examples)


def test_too_few_clips_are_told_before_anything_is_mixed():
    with pytest.raises(RunFailed, match=r"3 voices cannot be mixed of 2 clip") as failed:
        Mixer(CLIPS[:2], replace(PLAIN, speakers=3))
    assert failed.value.kind is Failure.DATA_MISSING
    with pytest.raises(RunFailed, match="same_voice"):
        Mixer([CLIPS[0], CLIPS[2]], replace(PLAIN, same_voice=0.1))


def test_two_clips_of_one_voice_are_mixed_where_there_is_no_other():
    example = Mixer(CLIPS[:2], PLAIN).example(0)
    assert sorted(tone_of(voice) for voice in example.clean) == [200, 300]
