"""What pickles would import, told without loading them."""

import collections
import gzip
import io
import os
import pickle
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.security.pickles import MAX_BYTES, is_model_file, read_model_file
from detectors.security.pickles import dangerous

LOADED: list[str] = []


class Harmful:
    def __init__(self, call: object, *arguments: object) -> None:
        self.reduced = (call, arguments)

    def __reduce__(self) -> object:
        return self.reduced


def would_run(words: str) -> None:
    """Named by the pickles below; a test that loads one of them is caught."""
    LOADED.append(words)


HARMFUL = Harmful(os.system, "true")
HARMLESS = {"weights": np.arange(3.0), "order": collections.OrderedDict(a=1), "names": ["a", "b"]}


def packed(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return stream.getvalue()


def bad(content: bytes) -> list[str]:
    return dangerous(read_model_file("m.pt", content).imports)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_dangerous_import_is_told_in_every_protocol(protocol: int) -> None:
    assert bad(pickle.dumps([1, "a", HARMFUL], protocol)) == ["posix.system"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_ordinary_models_are_silent(protocol: int) -> None:
    found = read_model_file("m.pkl", pickle.dumps(HARMLESS, protocol))
    assert "collections.OrderedDict" in found.imports
    assert (dangerous(found.imports), found.hidden, found.problem) == ([], 0, "")


def test_a_zip_a_compressed_file_and_an_array_of_objects_are_looked_into() -> None:
    harmful = pickle.dumps(HARMFUL)
    objects = io.BytesIO()
    np.save(objects, np.array([HARMFUL], dtype=object), allow_pickle=True)
    assert bad(packed(archive__data_pkl=harmful, archive__data__0=b"\\x00" * 64)) == ["posix.system"]
    assert bad(zlib.compress(harmful)) == ["posix.system"]
    assert bad(gzip.compress(harmful)) == ["posix.system"]
    assert bad(objects.getvalue()) == ["posix.system"]


def test_a_wrong_checksum_hides_nothing() -> None:
    content = packed(data_pkl=pickle.dumps(HARMFUL))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        crc = archive.infolist()[0].CRC.to_bytes(4, "little")
    assert content.count(crc) == 2
    assert bad(content.replace(crc, b"\1\2\3\4")) == ["posix.system"]


def test_a_plain_array_is_silent() -> None:
    plain = io.BytesIO()
    np.save(plain, np.frombuffer(pickle.dumps(HARMFUL), dtype=np.uint8))
    assert read_model_file("a.npy", plain.getvalue()).imports == ()


def test_the_second_pickle_of_a_file_counts_too() -> None:
    assert bad(pickle.dumps(1) + pickle.dumps(2) + pickle.dumps(HARMFUL)) == ["posix.system"]


def test_what_stands_before_a_broken_end_counts() -> None:
    found = read_model_file("m.pkl", b"cos\nsystem\n(S'true'\ntR\xff\xff")
    assert (dangerous(found.imports), found.problem) == (["os.system"], "it cannot be read to its end")


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x04save0\x93.",  # something between the name and its use
        b"\x80\x04\x8c\x04math\x8c\x02os\x8c\x06system\x8c\x01x00\x93.",
        b"\x80\x04]\x93.",
        b"\x80\x04\x82\x01.",  # an extension registry entry
    ],
)
def test_a_name_that_is_put_together_while_loading_is_hidden(content: bytes) -> None:
    assert read_model_file("m.pkl", content).hidden == 1


def test_memoised_names_are_followed() -> None:
    content = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93."
    assert read_model_file("m.pkl", content).imports == ("os.system",)


def test_nothing_is_ever_loaded() -> None:
    content = pickle.dumps(Harmful(would_run, "x"))
    assert read_model_file("m.pkl", content).imports == (f"{__name__}.would_run",)
    assert LOADED == []


def test_a_bomb_is_not_unpacked_whole() -> None:
    bomb = packed(data_pkl=b"\0" * (MAX_BYTES + 1))
    assert len(bomb) < 1 << 20
    assert read_model_file("m.pt", bomb).problem == "unpacked it is larger than 32 MiB"
    assert (
        read_model_file("m.pkl", zlib.compress(b"\0" * (MAX_BYTES + 1))).problem == "unpacked it is larger than 32 MiB"
    )


def test_a_pickle_of_endless_opcodes_ends() -> None:
    found = read_model_file("m.pkl", b"cos\nsystem\n" + b"N0" * 1_500_000)
    assert found.problem == "it is too long to be looked at whole"
    assert found.imports == ("os.system",)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.popen",
        "builtins.eval",
        "__builtin__.getattr",
        "_io.open",
        "subprocess.Popen",
        "torch.serialization.load",
        "code.InteractiveInterpreter",
        "collections.OrderedDict.__init__.__globals__",
        "urllib.request.urlopen",
    ],
)
def test_these_imports_are_dangerous(name: str) -> None:
    assert dangerous([name]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "torch._utils._rebuild_tensor_v2",
        "torch.FloatStorage",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn._loss._loss.__pyx_unpickle_CyHalfSquaredError",
        "copyreg._reconstructor",
        "copyreg.__newobj__",
        "_codecs.encode",
        "builtins.set",
        "code.model.Net",
        "profile.features.Scaler",
        "pathlib.PosixPath",
        "functools.partial",
        "operator.itemgetter",
        "__main__.Net",
    ],
)
def test_these_belong_to_models(name: str) -> None:
    assert dangerous([name]) == []


def test_model_files_are_told_by_their_suffix() -> None:
    assert [p for p in ("a.pt", "b/c.PKL", "m.ckpt", "m.safetensors", "m.onnx", "pt") if is_model_file(p)] == [
        "a.pt",
        "b/c.PKL",
        "m.ckpt",
    ]


_WHOLE = [
    *(pickle.dumps(HARMLESS, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
    packed(archive__data_pkl=pickle.dumps(HARMLESS), other=b"x"),
    zlib.compress(pickle.dumps(HARMLESS)),
    b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
]


@settings(max_examples=500, deadline=None)
@given(content=st.sampled_from(_WHOLE), data=st.data())
def test_any_damage_is_survived(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    found = read_model_file("m.pt", bytes(damaged))
    assert len(found.imports) <= 200


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_survived(content: bytes) -> None:
    read_model_file("m.bin", content)
    read_model_file("m.bin", b"\x80\x04" + content)
