"""The bundled speech pack: what is in it, and that its mouths move with its voices."""

import json

import numpy as np
import pytest

from workloads.av_separation.data import PACK
from workloads.av_separation.mixing import SAMPLES_A_FRAME
from workloads.av_separation.speech import corpus

MINUTE = 60 * 25


def minutes(clips):
    return sum(clip.frames for clip in clips) / MINUTE


def test_the_pack_is_small_enough_to_commit():
    assert sum(path.stat().st_size for path in PACK.rglob("*") if path.is_file()) < 5_000_000


def test_there_is_enough_speech_to_train_with():
    assert minutes(corpus.clips(PACK, "train")) > 10
    assert minutes(corpus.clips(PACK, "valid")) > 0.9
    assert minutes(corpus.clips(PACK, "test")) > 0.8


def test_the_voices_of_the_test_are_never_trained_with():
    train, valid, test = ({clip.voice for clip in corpus.clips(PACK, split)} for split in ("train", "valid", "test"))
    assert valid == train
    assert len(test) >= 3
    assert not test & train


def test_no_sentence_of_the_test_or_validation_is_trained_with():
    texts = {split: {clip.text for clip in corpus.clips(PACK, split)} for split in ("train", "valid", "test")}
    assert not texts["train"] & (texts["valid"] | texts["test"])


def test_people_are_heard_but_not_seen():
    people = corpus.clips(PACK, "people")
    assert {clip.voice for clip in people} == {"librivox-reader", "cards-player"}
    assert all(not clip.seen(0, clip.frames).any() and not clip.mouths(0, 2).any() for clip in people)
    assert 30 < sum(clip.frames for clip in people) / 25 < 36


@pytest.mark.parametrize("split", ["train", "valid", "test", "people"])
def test_every_clip_can_be_read_and_is_as_long_as_it_says(split):
    for clip in corpus.clips(PACK, split)[::4]:
        audio = clip.audio(0, clip.frames)
        assert audio.shape == (clip.frames * SAMPLES_A_FRAME,)
        assert 0.03 < np.abs(audio).max() <= 1


def test_every_part_of_the_pack_says_where_it_is_from():
    told = (PACK / "README.md").read_text(encoding="utf-8")
    engines = {json.loads(line)["voice"].split(":")[0] for line in (PACK / corpus.MANIFEST).read_text().splitlines()}
    assert engines == {"flite", "espeak", "librivox-reader", "cards-player"}
    for name in ("flite", "espeak-ng", "pocketsphinx-testdata", "LibriVox", "Redistribution and use"):
        assert name in told


def test_a_mouth_opens_more_while_its_voice_is_loud_than_in_its_pauses():
    for clip in corpus.clips(PACK, "test"):
        loud = np.abs(clip.audio(0, clip.frames)).reshape(clip.frames, -1).mean(1)
        opened = clip.shapes[:, 0].astype(float)
        assert np.corrcoef(loud, opened)[0, 1] > 0.2


def test_the_pictures_of_a_clip_are_the_same_each_time_and_differ_from_another_face():
    one, again, other = corpus.clips(PACK, "valid")[0], corpus.clips(PACK, "valid")[0], corpus.clips(PACK, "valid")[1]
    assert np.array_equal(one.mouths(3, 9), again.mouths(3, 9))
    assert abs(float(one.mouths(0, 9).mean()) - float(other.mouths(0, 9).mean())) > 1
