"""Sources: manifests, layouts, films, and what is said of data that is missing or broken."""

import itertools
import json
import pickle
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from tests.workloads.films import film, mouth_box, opening, speech
from workloads.av_separation import data, prepare, recordings
from workloads.av_separation.data import batches, fingerprint_of, open_source
from workloads.contract import Failure, RunFailed

RATE = 16_000
MIDDLE = slice(12 * 640, 37 * 640)  # 25 of 50 frames
CODES = {"missing": Failure.DATA_MISSING, "malformed": Failure.DATA_MALFORMED}


def sound(path, hertz=300.0, seconds=2.0, rate=RATE, channels=1, level=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.1 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    wave = wave * (level / 0.1) if np.isfinite(level) else np.full_like(wave, level)
    soundfile.write(path, np.stack([wave] * channels, 1), rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return wave.astype(np.float32)


def mouths(path, grey=100, frames=50, side=96, key="data"):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: np.full((frames, side, side), grey, np.uint8)})


def two_mix(folder, names, rate=RATE):
    """A mixture of two tones with mouths for each name, in the layout of LRS2-2Mix."""
    for part, (one, other) in names.items():
        name = f"{one}_1.25_{other}_-1.25.wav"
        root = folder / "wav16k" / "min" / part
        first, second = sound(root / "s1" / name, 300, rate=rate), sound(root / "s2" / name, 700, rate=rate)
        (root / "mix").mkdir(parents=True)
        soundfile.write(root / "mix" / name, first + second, rate, subtype="FLOAT")
        mouths(folder / "mouths" / f"{one}.npz", 100)
        mouths(folder / "mouths" / f"{other}.npz", 200)


def opened(path, split="train", **told):
    return open_source(str(path), split=split, seconds=1.0, vary=False, **told)


def refused(path, kind, words, split="train", **told):
    with pytest.raises(RunFailed, match=words) as failed:
        opened(path, split, **told).example(0)
    assert failed.value.kind is CODES[kind]
    return str(failed.value)


# --- the pack --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_the_pack_gives_examples_of_the_agreed_shapes(split):
    example = open_source("pack", split=split, seconds=2.0).example(0)
    assert example.mixture.shape == (32_000,)
    assert example.clean.shape == (2, 32_000)
    assert example.mouths.shape == (2, 50, 48, 48)
    assert example.seen.all()
    assert example.mouths.std(axis=1).max() > 0.05


def test_people_are_mixed_without_pictures():
    example = open_source("people", split="test").example(0)
    assert not example.seen.any()
    assert not example.mouths.any()
    assert np.abs(example.clean).max(1).min() > 0.01


def test_batches_go_on_from_any_example_exactly():
    source = open_source("pack", split="train", seconds=0.4, noise=0.5, reverb=0.5, missing=0.5)
    whole = list(itertools.islice(batches(source, 2), 3))
    again = next(batches(open_source("pack", split="train", seconds=0.4, noise=0.5, reverb=0.5, missing=0.5), 2, 4))
    for name in ("mixture", "mouths", "seen", "clean", "snr_db"):
        assert np.array_equal(getattr(whole[2], name), getattr(again, name))
    shared = list(itertools.islice(batches(source, 1, 1, step=2), 2))  # the second of two processes
    assert np.array_equal(shared[1].mixture[0], whole[1].mixture[1])


def test_a_source_can_be_sent_to_another_process():
    source = open_source("pack", split="valid", seconds=0.4)
    sent = pickle.loads(pickle.dumps(source))
    assert np.array_equal(sent.example(3).mixture, source.example(3).mixture)


def test_a_range_of_levels_that_is_none_is_refused():
    with pytest.raises(RunFailed, match="snr_low is 5, above snr_high") as failed:
        open_source("pack", split="train", snr_db=(5.0, -5.0))
    assert failed.value.kind is Failure.BAD_SETTING


def test_an_unknown_part_is_refused():
    with pytest.raises(RunFailed, match="split is 'dev'") as failed:
        open_source("pack", split="dev")
    assert failed.value.kind is Failure.BAD_SETTING


# --- manifests -------------------------------------------------------------------------------------------------------


@pytest.fixture
def voices(tmp_path):
    """Four voices with two clips each; those of `ann` have mouths at 50 a second."""
    for number, name in enumerate(("ann", "bob", "cat", "dan")):
        for clip in (1, 2):
            sound(tmp_path / name / f"{clip}.wav", 200 + 150 * number + 20 * clip)
            mouths(tmp_path / name / f"{clip}.npz", 40 + 40 * number, frames=100 if name == "ann" else 50, side=48)
    return tmp_path


def manifest_of_voices(folder, suffix):
    rows = [
        {
            "clean": f"{name}/{clip}.wav",
            "video": f"{name}/{clip}.npz" if name != "dan" else "",
            "fps": 50 if name == "ann" else 25,
            "voice": name,
            "split": "train",
        }
        for name in ("ann", "bob", "cat", "dan")
        for clip in (1, 2)
    ]
    path = folder / f"voices{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_voices_of_a_manifest_are_mixed_on_the_fly(voices, suffix):
    source = opened(manifest_of_voices(voices, suffix))
    greys = set()
    for index in range(20):
        example = source.example(index)
        assert np.allclose(example.mixture, example.clean.sum(0), atol=1e-6)
        greys |= {round(float(mouth.max()) * 255) for mouth in example.mouths}
        assert all(seen.all() == mouth.any() for seen, mouth in zip(example.seen, example.mouths, strict=True))
    assert greys == {40, 80, 120, 0}  # dan has no video, and is mixed all the same


def test_csv_and_jsonl_say_the_same(voices):
    one, other = (opened(manifest_of_voices(voices, suffix)).example(4) for suffix in (".csv", ".jsonl"))
    assert np.array_equal(one.mixture, other.mixture)
    assert np.array_equal(one.mouths, other.mouths)


def test_mixtures_that_are_given_are_taken_as_they_are(tmp_path):
    first, second = sound(tmp_path / "a.wav", 300), sound(tmp_path / "b.wav", 700, level=0.05)
    soundfile.write(tmp_path / "m.wav", first + second, RATE, subtype="FLOAT")
    mouths(tmp_path / "a.npz", 90)
    (tmp_path / "list.csv").write_text("mixture,clean,video,fps,split\nm.wav,a.wav|b.wav,a.npz|,25,test\n")
    example = opened(tmp_path / "list.csv", "test", noise=1.0, reverb=1.0).example(0)
    assert np.allclose(example.mixture, (first + second)[MIDDLE], atol=1e-7)
    assert np.allclose(example.clean, np.stack([first, second])[:, MIDDLE], atol=1e-7)
    assert example.snr_db == pytest.approx(6.02, abs=0.01)
    assert [seen.all() for seen in example.seen] == [True, False]
    assert np.allclose(example.mouths[0], 90 / 255)


def test_the_fps_of_a_manifest_is_believed(tmp_path):
    ramp = np.arange(60, dtype=np.uint8)[:, None, None] * np.ones((1, 48, 48), np.uint8)  # 2 s at 30 a second
    np.save(tmp_path / "a.npy", ramp)
    sound(tmp_path / "a.wav")
    clip = recordings.recording(tmp_path / "a.wav", tmp_path / "a.npy", voice="a", fps=30)
    shown = clip.mouths(0, 50)[:, 0, 0].astype(float)
    assert np.abs(shown - (np.arange(50) + 0.5) * 30 / 25).max() <= 1
    assert clip.seen(0, 50).all()


def test_without_a_split_no_voice_is_in_two_parts(tmp_path):
    for number in range(12):
        sound(tmp_path / f"{number}.wav", 200 + 50 * number, seconds=0.5)
    rows = [{"clean": f"{number}.wav", "voice": f"person-{number // 2}"} for number in range(12)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = {split: {clip.voice for clip in opened(tmp_path / "all.jsonl", split).clips} for split in data.SPLITS}
    assert parts["train"] | parts["valid"] | parts["test"] == {f"person-{number}" for number in range(6)}
    assert sum(len(part) for part in parts.values()) == 6
    assert all(len(part) == 2 for part in parts.values())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "clean,speaker\na.wav,ann\n", r"line 1: no column is called 'speaker'"),
        ("a.csv", "clean,video\na.wav\n", r"line 2: as many fields as in line 1"),
        ("a.csv", "clean,video\n,b.npz\n", r"line 2: `clean` names no sound"),
        ("a.csv", "clean,video\na.wav|b.wav,b.npz\n", r"line 2: 2 in `clean` and 1 in `video`: give one for each"),
        ("a.csv", "clean,fps\na.wav,quick\n", r"line 2: fps is 'quick': say pictures a second"),
        ("a.csv", "clean,fps\na.wav,nan\n", r"line 2: fps is 'nan'"),
        ("a.csv", "clean,split\na.wav,dev\n", r"line 2: split is 'dev'"),
        ("a.csv", "x" * 200_000 + "\n", r"line 1: no csv"),
        ("a.jsonl", '{"clean": "a.wav"}\n{"clean": \n', r"line 2: no JSON"),
        ("a.jsonl", "[1]\n", r"line 1: an object is needed"),
        ("a.jsonl", '{"clean": 7}\n', r"line 1: `clean` is 7: give a path or a list"),
        ("a.jsonl", "[" * 100_000, r"line 1: no JSON"),
        ("a.jsonl", '{"clean": "a.wav", "split": ["train"]}\n', r"line 1: split is \['train'\]"),
    ],
)
def test_a_malformed_manifest_is_told_by_file_line_and_remedy(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    assert name in refused(tmp_path / name, "malformed", words)


def test_an_empty_manifest_one_in_latin_1_and_none_are_told(tmp_path):
    (tmp_path / "a.csv").write_text("clean\n")
    refused(tmp_path / "a.csv", "missing", "has no lines")
    (tmp_path / "b.csv").write_bytes("clean\nJosé.wav\n".encode("latin-1"))
    refused(tmp_path / "b.csv", "malformed", "not in UTF-8")
    refused(tmp_path / "none.csv", "missing", "is no data: say pack, a manifest")
    (tmp_path / "void").mkdir()
    refused(tmp_path / "void", "missing", "holds no manifest")


def test_too_few_voices_to_hold_any_out_are_told(tmp_path):
    sound(tmp_path / "a.wav")
    (tmp_path / "a.csv").write_text("clean\na.wav\n")
    refused(tmp_path / "a.csv", "missing", "1 voice.* column `split`")
    (tmp_path / "a.csv").write_text("clean,split\na.wav,train\n")
    refused(tmp_path / "a.csv", "missing", "nothing of the part 'test'", split="test")
    refused(tmp_path / "a.csv", "missing", "2 voices cannot be mixed of 1 clip")


# --- broken files ----------------------------------------------------------------------------------------------------


def listed(folder, first="a.wav", video=""):
    sound(folder / "b.wav", 700)
    path = folder / "list.csv"
    path.write_text(f"clean,video,split\n{first},{video},train\nb.wav,,train\n")
    return path


@pytest.mark.parametrize(
    ("broken", "kind", "words"),
    [
        (lambda path: None, "missing", r"line 2: .*a\.wav is not there: correct its path"),
        (lambda path: path.write_bytes(b""), "malformed", r"a\.wav is no sound that can be read"),
        (lambda path: path.write_bytes(b"RIFF\xff\xff\xff\xffWAVEjunk"), "malformed", r"a\.wav is no sound"),
        (lambda path: sound(path, seconds=0), "malformed", r"a\.wav has no sound, or less than 0\.04 s"),
        (lambda path: sound(path, rate=44_100), "malformed", r"44100 Hz and 1 channels.*ffmpeg -i OLD -ar 16000 -ac 1"),
        (lambda path: sound(path, channels=2), "malformed", r"16000 Hz and 2 channels"),
        (lambda path: sound(path, level=np.nan), "malformed", r"a\.wav has samples that are no numbers"),
        (lambda path: sound(path, level=np.inf), "malformed", r"a\.wav has samples that are no numbers"),
    ],
    ids=["missing", "empty", "junk", "zero-length", "wrong rate", "stereo", "nan", "infinite"],
)
def test_a_sound_that_cannot_be_used_is_named_with_its_remedy(tmp_path, broken, kind, words):
    broken(tmp_path / "a.wav")
    assert "list.csv, line 2" in refused(listed(tmp_path), kind, words)


def test_a_huge_sound_is_refused_unread(tmp_path, monkeypatch):
    sound(tmp_path / "a.wav")
    huge = SimpleNamespace(samplerate=RATE, channels=1, frames=RATE * 3600 * 5)
    monkeypatch.setattr(recordings.soundfile, "info", lambda _: huge)
    refused(listed(tmp_path), "malformed", "longer than 4 hours: cut it into pieces")


def test_a_sound_that_became_shorter_is_told(tmp_path):
    sound(tmp_path / "a.wav", seconds=2)
    source = opened(listed(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(RunFailed, match=r"a\.wav broke off") as failed:
        source.example(0)
    assert failed.value.kind is Failure.DATA_MALFORMED


def bomb(path):
    header = b"\x93NUMPY\x01\x00"
    told = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10000000, 96, 96), }"
    told += b" " * (118 - len(told) - 1) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", header + len(told).to_bytes(2, "little") + told)


@pytest.mark.parametrize(
    "broken",
    [
        lambda path: None,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04junk"),
        lambda path: mouths(path, key="other"),
        lambda path: mouths(path, frames=0),
        lambda path: np.savez(path, data=np.array([{"a": 1}], dtype=object)),
        lambda path: np.savez(path, data=np.full((50, 48, 48), np.nan, np.float32)),
        lambda path: np.savez(path, data=np.zeros(7)),
        lambda path: np.savez(path, data=np.array([["text"] * 48] * 48 * 2).reshape(2, 48, 48)),
        lambda path: np.savez(path, data=np.ones((50, 48, 48), np.uint8), seen=np.ones(7)),
        bomb,
    ],
    ids=[
        "missing",
        "empty",
        "junk",
        "other key",
        "no frames",
        "pickled",
        "nan",
        "one axis",
        "text",
        "other lengths",
        "bomb",
    ],
)
def test_where_only_the_picture_is_broken_the_voice_goes_on_unseen(tmp_path, broken):
    sound(tmp_path / "a.wav", 300)
    broken(tmp_path / "a.npz")
    example = opened(listed(tmp_path, video="a.npz")).example(0)
    assert not example.seen.any()
    assert not example.mouths.any()
    assert np.abs(example.clean).max(1).min() > 0.001


def test_a_picture_that_ends_early_is_seen_until_then(tmp_path):
    sound(tmp_path / "a.wav", seconds=2)
    mouths(tmp_path / "a.npz", 90, frames=30, side=48)
    clip = recordings.recording(tmp_path / "a.wav", tmp_path / "a.npz", voice="a")
    assert clip.seen(20, 25).tolist() == [1] * 10 + [0] * 15
    assert clip.mouths(20, 25)[9].all()
    assert not clip.mouths(20, 25)[10:].any()


def test_crops_of_lip_readers_are_cut_to_their_middle():
    picture = np.zeros((2, 96, 96), np.uint8)
    picture[:, 12:84, 12:84] = 200  # the middle three quarters
    assert (recordings.small(picture) == 200).all()
    assert (recordings.small(picture.astype(np.float32) / 255) == 200).all()
    colour = np.stack([picture] * 3, -1)
    assert np.abs(recordings.small(colour).astype(int) - 200).max() <= 1
    exact = np.random.default_rng(0).integers(0, 256, (2, 48, 48)).astype(np.uint8)
    assert np.array_equal(recordings.small(exact), exact)


# --- layouts ---------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "LRS2": {"tr": ("6330311066473698535_00011", "6339356267468615354_00010"), "tt": ("63_1", "64_2")},
    "LRS3": {"tr": ("0Fi83BHQsMA_00002", "0akiEFwtkyA_00031"), "tt": ("_y-0AbC9_x1_00001", "q_-123AbC_z_00002")},
    "VoxCeleb2": {"tr": ("id00817_WRMSQzOzK-Q_00285", "id05816_leI6zATqzKI_00391"), "tt": ("id1_a_0", "id2_b_1")},
}


@pytest.mark.parametrize("corpus", LAYOUTS)
def test_the_published_mixtures_are_read_with_the_mouths_of_each_voice(tmp_path, corpus):
    two_mix(tmp_path, LAYOUTS[corpus])
    for split in ("train", "test"):
        example = opened(tmp_path, split).example(0)
        assert np.allclose(example.mixture, example.clean.sum(0), atol=1e-6)
        assert [round(float(mouth.mean() * 255)) for mouth in example.mouths] == [100, 200]
        assert example.seen.all()
    refused(tmp_path, "missing", "nothing of the part 'valid'", split="valid")


def test_ctcnets_lists_of_them_are_read_too(tmp_path):
    two_mix(tmp_path, LAYOUTS["LRS2"])
    (lists := tmp_path / "lists" / "tr").mkdir(parents=True)
    root = tmp_path / "wav16k" / "min" / "tr"
    for part in ("mix", "s1", "s2"):
        files = sorted((root / part).glob("*.wav"))
        stem = LAYOUTS["LRS2"]["tr"][part == "s2"]
        mouth = [] if part == "mix" else [str(tmp_path / "mouths" / f"{stem}.npz")]
        (lists / f"{part}.json").write_text(json.dumps([[str(file), *mouth, 32_000] for file in files]))
    one, other = opened(tmp_path).example(5), opened(tmp_path / "lists").example(5)
    assert np.array_equal(one.mixture, other.mixture)
    assert np.array_equal(one.mouths, other.mouths)
    (lists / "s2.json").write_text("[]")
    refused(tmp_path / "lists", "malformed", "have not as many entries as mix.json")
    (lists / "s2.json").write_text("[" * 100_000)
    refused(tmp_path / "lists", "malformed", "s2.json is no JSON")


def test_given_mixtures_are_trained_with_in_another_order_each_time_round(tmp_path):
    for number in range(4):
        two_mix(tmp_path / str(number), {"tr": ("a_1", "b_1")})
    rows = [
        f"{number}/wav16k/min/tr/mix/a_1_1.25_b_1_-1.25.wav,"
        f"{number}/wav16k/min/tr/s1/a_1_1.25_b_1_-1.25.wav|{number}/wav16k/min/tr/s2/a_1_1.25_b_1_-1.25.wav,train"
        for number in range(4)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["mixture,clean,split", *rows]))
    source = opened(tmp_path / "list.csv")
    turns = [[source._which(4 * turn + place) for place in range(4)] for turn in range(6)]
    assert all(sorted(turn) == [0, 1, 2, 3] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1


def test_a_mixture_of_more_voices_than_asked_for_is_told(tmp_path):
    two_mix(tmp_path, LAYOUTS["LRS2"])
    with pytest.raises(RunFailed, match="a mixture of 2 voices, where 3 are asked for: set speakers") as failed:
        opened(tmp_path, speakers=3)
    assert failed.value.kind is Failure.BAD_SETTING


def test_voices_that_are_not_as_long_as_their_mixture_are_told(tmp_path):
    two_mix(tmp_path, LAYOUTS["LRS2"])
    sound(next((tmp_path / "wav16k/min/tr/s2").iterdir()), seconds=1.5)
    refused(tmp_path, "malformed", "lasts 1.48 s and its mixture 2.00 s")


def test_a_mixture_whose_name_tells_no_voices_is_told(tmp_path):
    two_mix(tmp_path, LAYOUTS["LRS2"])
    mix = next((tmp_path / "wav16k/min/tr/mix").iterdir())
    mix.rename(mix.with_name("mixture1.wav"))
    refused(tmp_path, "malformed", "its name tells not whose voices")


# --- films -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shot(tmp_path_factory):
    """A film of one face for each of six people. Where the face is tells a file beside it, but `e` is out of the
    picture, and of `f` there is only the sound."""
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate("abcdef"):
        (folder / name).mkdir()
        voice = speech(1.2, 100 + 30 * number, seed=number)
        film(folder / name / "one.mp4", seconds=1.2, faces=1, sound=voice, pictures=[] if name == "f" else None)
        box = None if name == "e" else mouth_box(0)
        (folder / name / "one.json").write_text(json.dumps({"fps": 25, "faces": [[box] * 30]}))
    return folder


@pytest.fixture
def films(tmp_path, shot):
    return shutil.copytree(shot, tmp_path / "films")


def by_voice(path):
    return {clip.voice: clip for split in data.SPLITS for clip in opened(path, split).clips}


def follows(mouths):
    """How well pictures follow the mouth that was drawn: dark where it is open."""
    drawn = [opening(frame, 0) for frame in range(len(mouths))]
    return -np.corrcoef(mouths.reshape(len(mouths), -1).mean(1), drawn)[0, 1]


def test_a_folder_of_films_is_mixed_by_who_speaks(films):
    voices = by_voice(films)
    assert set(voices) == set("abcdef")
    assert voices["a"].seen(0, 30).all()
    assert follows(voices["a"].mouths(0, 30)) > 0.8
    assert not voices["e"].seen(0, 30).any()
    assert not voices["f"].seen(0, 30).any()
    example = opened(films).example(0)
    assert np.allclose(example.mixture, example.clean.sum(0), atol=1e-6)


def test_films_below_a_parts_folder_belong_to_it(films):
    for split, names in (("test", "cd"), ("train", "abef")):
        (films / split).mkdir()
        for name in names:
            (films / name).rename(films / split / name)
    assert {clip.voice for clip in opened(films, "test").clips} == {"c", "d"}
    assert {clip.voice for clip in opened(films, "train").clips} == {"a", "b", "e", "f"}


def test_raw_lrs3_and_voxceleb2_tell_who_speaks_by_their_folders(tmp_path):
    names = {
        "pretrain/0Fi83BHQsMA/00002.mp4": ("train", "0Fi83BHQsMA"),
        "trainval/akiEFwtkyA/50001.mp4": ("train", "akiEFwtkyA"),
        "test/akiEFw/50001.mp4": ("test", "akiEFw"),
        "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4": ("train", "id00012"),
        "test/mp4/id00017/01dfn2spqyE/00001.mp4": ("test", "id00017"),
        "alone.mov": ("", "alone"),
    }
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    told = {row.clean[0].relative_to(tmp_path).as_posix(): (row.split, row.voice[0]) for row in data.films(tmp_path)}
    assert told == names


def test_prepared_films_are_what_the_films_are(films, tmp_path, capsys):
    assert prepare.main([str(films), "--out", str(tmp_path / "made")]) == 0
    assert "6 films, 2 without a face, 0 left out" in capsys.readouterr().out
    before, after = by_voice(films), by_voice(tmp_path / "made" / "manifest.jsonl")
    assert set(before) == set(after)
    for name in "abcdef":
        length = min(before[name].frames, after[name].frames)
        assert abs(before[name].frames - after[name].frames) <= 1
        assert np.allclose(before[name].audio(0, length), after[name].audio(0, length), atol=1e-4)
        assert np.array_equal(before[name].mouths(0, length), after[name].mouths(0, length))
        assert np.array_equal(before[name].seen(0, length), after[name].seen(0, length))


def test_films_of_one_name_and_two_kinds_are_two_films(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(prepare, "prepare", lambda film, stem: made.append((film.name, stem.name)) or True)
    for name in ("one.mov", "one.mp4"):
        (tmp_path / name).touch()
    assert prepare.main([str(tmp_path), "--out", str(tmp_path)]) == 0
    assert made == [("one.mov", "one"), ("one.mp4", "one.mp4")]
    told = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["clean"] for line in told] == ["one.flac", "one.mp4.flac"]


def test_preparing_goes_on_after_a_stop_and_leaves_out_what_is_broken(films, tmp_path, capsys):
    (films / "b" / "one.mp4").write_bytes(b"no film")
    assert prepare.main([str(films), "--out", str(tmp_path / "made")]) == 0
    said = capsys.readouterr()
    assert "5 films, 2 without a face, 1 left out" in said.out
    assert "left out" in said.err
    assert "one.mp4" in said.err
    kept = tmp_path / "made" / "a" / "one.flac"
    kept.write_bytes(b"as it was")
    (tmp_path / "made" / "c" / "one.flac").unlink()
    assert prepare.main([str(films), "--out", str(tmp_path / "made")]) == 0
    assert kept.read_bytes() == b"as it was"
    assert (tmp_path / "made" / "c" / "one.flac").is_file()


def test_preparing_stops_where_nothing_is_installed_that_finds_faces(films, tmp_path, capsys, monkeypatch):
    def tracks_of(*_, **__):
        raise RunFailed(Failure.NOT_INSTALLED, "install the extra `faces`")

    monkeypatch.setattr("workloads.av_separation.mouths.tracks_of", tracks_of)
    assert prepare.main([str(films), "--out", str(tmp_path / "made")]) == 3
    assert "install the extra `faces`" in capsys.readouterr().err
    with pytest.raises(RunFailed, match="install the extra"):
        by_voice(films)["a"].mouths(0, 5)


def test_a_folder_without_a_film_that_can_be_read_is_told(tmp_path, capsys):
    (tmp_path / "a.mp4").write_bytes(b"no film")
    assert prepare.main([str(tmp_path), "--out", str(tmp_path / "made")]) == 1
    assert "none of 1 films could be read" in capsys.readouterr().err


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_a_name_or_a_byte_and_with_nothing_else(tmp_path, voices):
    path = manifest_of_voices(voices, ".csv")
    before = fingerprint_of(str(path))
    assert fingerprint_of(str(path)) == before
    raw = bytearray((voices / "bob" / "1.wav").read_bytes())
    raw[-1] ^= 1
    (voices / "bob" / "1.wav").write_bytes(raw)
    assert fingerprint_of(str(path)) != before
    raw[-1] ^= 1
    (voices / "bob" / "1.wav").write_bytes(raw)
    assert fingerprint_of(str(path)) == before
    path.write_text(path.read_text().replace("ann\n", "anna\n").replace("ann,", "anna,"))
    assert fingerprint_of(str(path)) != before


def test_the_fingerprint_of_much_data_says_that_only_sizes_were_read(voices, monkeypatch):
    path = manifest_of_voices(voices, ".csv")
    monkeypatch.setattr(data, "_HASHED_BYTES", 10)
    assert fingerprint_of(str(path)).startswith("sizes-")


def test_the_fingerprint_of_the_pack_is_a_hash(tmp_path):
    assert len(bytes.fromhex(fingerprint_of("pack"))) == 32
    assert fingerprint_of("people") == fingerprint_of("pack")
