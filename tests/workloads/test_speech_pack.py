"""The bundled speech pack, how more of it is made, and the mouths that are drawn to it."""

import json
import shutil
import sys
from collections import Counter

import numpy as np
import pytest

from workloads.av_separation.data import PACK, open_source
from workloads.av_separation.mixing import SAMPLES_A_FRAME
from workloads.av_separation.speech import corpus
from workloads.av_separation.speech.__main__ import main
from workloads.av_separation.speech.render import Look, render
from workloads.av_separation.speech.sentences import sentence
from workloads.av_separation.speech.visemes import Phone, shapes
from workloads.contract import Failure, RunFailed

MINUTE = 60 * 25


def minutes(clips):
    return sum(clip.frames for clip in clips) / MINUTE


def test_the_pack_is_small_enough_to_commit():
    assert sum(path.stat().st_size for path in PACK.rglob("*") if path.is_file()) < 5_000_000


def test_there_is_enough_speech_to_train_with():
    assert minutes(corpus.clips(PACK, "train")) > 10
    assert minutes(corpus.clips(PACK, "valid")) > 2
    assert minutes(corpus.clips(PACK, "test")) > 2


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_voice_can_be_mixed_with_itself(split):
    spoken = Counter(clip.voice for clip in corpus.clips(PACK, split))
    assert min(spoken.values()) >= 2
    assert open_source("pack", split=split, same_voice=1.0, seconds=0.4).example(0).seen.all()


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


# --- making more of it -----------------------------------------------------------------------------------------------

FLITE = """#!{python}
import sys, wave
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if told["-voice"] == "rms":
    sys.exit("no such voice")
said = sys.argv[sys.argv.index("-t") + 1].split()
with wave.open(sys.argv[-1], "wb") as file:
    file.setparams((1, 2, 16000, 0, "NONE", ""))
    file.writeframes((b"\\x00\\x20" * 40 + b"\\x00\\xe0" * 40) * 200 * len(said))
spoken = [(name, number + end) for number in range(len(said)) for name, end in (("b", 0.5), ("aa", 1))]
print(" ".join(f"{{name}}:{{end}}" for name, end in spoken))
"""


@pytest.fixture(scope="module")
def flite(tmp_path_factory):
    """A program that is told what flite is told, and answers as it does."""
    program = tmp_path_factory.mktemp("bin") / "flite"
    program.write_text(FLITE.format(python=sys.executable))
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module")
def whole(tmp_path_factory, flite):
    folder = tmp_path_factory.mktemp("speech") / "corpus"
    assert made(folder, flite) == 0
    return folder


def made(folder, flite, **told):
    args = {"out": folder, "flite": flite, "minutes": 0.02, "voices": "flite:slt,flite:awb@1.10"}
    args |= {"held-out": "flite:kal16", "valid-minutes": 0.01, "test-minutes": 0.01, "jobs": 1, **told}
    return main([part for name, value in args.items() for part in (f"--{name}", str(value))])


def test_a_corpus_that_is_made_can_be_trained_with(whole):
    example = open_source(str(whole), split="train", seconds=1.0).example(0)
    assert example.seen.all()
    assert example.mouths.std(axis=1).max() > 0.05
    assert {clip.voice for clip in corpus.clips(whole, "test")} == {"flite:kal16"}


def test_the_same_seed_makes_the_same_corpus_whatever_the_jobs(tmp_path, flite, whole):
    assert made(tmp_path / "again", flite, jobs=2) == 0
    assert made(tmp_path / "other", flite, seed=2) == 0
    assert said(tmp_path / "again") == said(whole)
    assert said(tmp_path / "other") != said(whole)


def said(folder):
    """All that a corpus holds. Not its bytes: each Ogg stream has a random number."""
    told = [(folder / name).read_bytes() for name in (corpus.MANIFEST, corpus.MOUTHS)]
    splits = ("train", "valid", "test")
    return told + [clip.audio(0, clip.frames).tobytes() for split in splits for clip in corpus.clips(folder, split)]


def test_what_is_not_installed_is_named_with_its_package(tmp_path, flite, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert made(tmp_path / "corpus", "") == 3
    assert "apt-get install flite" in capsys.readouterr().err
    assert made(tmp_path / "corpus", flite, voices="espeak:en-us", espeak="none.so") == 3
    assert "apt-get install espeak-ng" in capsys.readouterr().err


def test_a_voice_that_does_not_speak_and_one_that_is_none_are_told(tmp_path, flite, capsys):
    assert made(tmp_path / "corpus", flite, voices="flite:rms") == 3
    assert "did not speak as rms: no such voice" in capsys.readouterr().err
    assert made(tmp_path / "corpus", flite, voices="flite:kal") == 3
    assert "'flite:kal' is no voice: say flite:awb" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        made(tmp_path / "corpus", flite, voices="flite:kal16")
    assert "--voices and --held-out have both flite:kal16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "kind", "words"),
    [
        (lambda folder: (folder / "mouths.npy").write_bytes(b"junk"), "malformed", "mouths.npy cannot be read"),
        (lambda folder: np.save(folder / "mouths.npy", np.zeros((9, 3))), "malformed", "holds no shapes of mouths"),
        (lambda folder: (folder / "manifest.jsonl").write_text("{}\n"), "malformed", "line 1: .*clip.* is missing"),
        (lambda folder: (folder / "manifest.jsonl").write_text("{\n"), "malformed", "line 1: no JSON"),
        (lambda folder: (folder / "manifest.jsonl").write_text("7\n"), "malformed", "line 1: no object"),
        (lambda folder: (folder / "manifest.jsonl").write_text(ROW % ("x.flac", 10**9)), "malformed", "do not fit"),
        (lambda folder: (folder / "manifest.jsonl").write_text(ROW % ("../x.flac", 5)), "malformed", "lies outside"),
        (lambda folder: (folder / "manifest.jsonl").write_text(ROW % ("x.flac", 5)), "missing", "there is no"),
        (lambda folder: (folder / "manifest.jsonl").write_text(""), "missing", "no clips of the part 'train'"),
        (lambda folder: next(folder.glob("train/*")).write_bytes(b""), "malformed", "is no sound"),
    ],
)
def test_a_broken_corpus_is_told(tmp_path, whole, broken, kind, words):
    shutil.copytree(whole, tmp_path / "corpus")
    broken(tmp_path / "corpus")
    with pytest.raises(RunFailed, match=words) as failed:
        read(tmp_path / "corpus")
    assert failed.value.kind is {"missing": Failure.DATA_MISSING, "malformed": Failure.DATA_MALFORMED}[kind]


def read(folder):
    for clip in corpus.clips(folder, "train"):
        clip.audio(0, clip.frames)


ROW = '{"clip": "%s", "voice": "a", "split": "train", "frames": %d, "first": 0}\n'


# --- mouths ----------------------------------------------------------------------------------------------------------


def shape_of(*phones, ipa=False):
    """The mouth in the middle of the last of some phonemes of 0.2 s: open, wide, round, teeth, tongue, 0…1."""
    told = [Phone(name, 0.2 * (number + 1)) for number, name in enumerate(phones)]
    return shapes(told, 5 * len(phones), ipa=ipa)[-3] / 255


def test_lips_close_for_b_and_open_for_a_and_round_for_u():
    closed, opened, rounded = shape_of("b"), shape_of("aa"), shape_of("uw")
    assert closed[0] < 0.05 < 0.8 < opened[0]
    assert rounded[2] > 0.8 > 0.3 > opened[2]
    assert shape_of("s")[3] > 0.8
    assert shape_of("l")[4] > 0.7


def test_both_alphabets_draw_the_same_mouth():
    for arpabet, ipa in (("b", "b"), ("iy", "iː"), ("sh", "ʃ"), ("w", "w"), ("ao", "ɔː"), ("pau", ""), ("ay", "aɪ")):
        assert np.array_equal(shape_of("pau", arpabet), shape_of("", ipa, ipa=True))


def test_a_short_b_between_vowels_closes_the_lips_and_a_k_does_not():
    def least(consonant):
        return shapes([Phone("aa", 0.2), Phone(consonant, 0.26), Phone("aa", 0.46)], 11)[:, 0].min() / 255

    assert least("b") < 0.3 < 0.6 < least("k")


def test_a_phoneme_that_is_not_known_rests():
    assert np.array_equal(shape_of("pau", "xyz"), shape_of("pau", "pau"))


def test_an_open_mouth_is_darker_than_a_closed_one_in_every_face():
    for seed in range(8):
        look = Look.drawn_by(np.random.default_rng(seed))
        closed, opened = (
            render(np.tile(np.asarray(shape, np.uint8), (6, 1)), look, seed).mean()
            for shape in ((0, 115, 25, 0, 0), (230, 115, 25, 0, 0))
        )
        assert opened < closed - 1


def test_a_frame_looks_the_same_however_many_are_drawn_with_it():
    told = np.random.default_rng(1).integers(0, 256, (90, 5)).astype(np.uint8)
    look = Look.drawn_by(np.random.default_rng(2))
    assert np.array_equal(render(told, look, 5, 17, 40), render(told, look, 5)[17:57])


def test_a_clip_that_finds_no_room_in_memory_looks_the_same():
    kept, crowded = corpus.clips(PACK, "test")[0], corpus.clips(PACK, "test")[0]
    crowded.kept.most = 0
    assert np.array_equal(crowded.mouths(11, 20), kept.mouths(11, 20))
    assert np.array_equal(crowded.audio(11, 20), kept.audio(11, 20))
    assert crowded.kept.used == 0 < kept.kept.used


def test_sentences_seldom_repeat():
    rng = np.random.default_rng(0)
    assert len({sentence(rng) for _ in range(500)}) > 495
