"""The rows tell what went in, and the bot reads the file."""

import json

import numpy as np
import pytest

from app.adapters.observations import read_json
from app.domain.model import Role
from workloads.av_separation import drift


def batch(level: float = 0.1, batch: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    voices = level * np.random.default_rng(0).standard_normal((batch, 2, 16_000)).astype(np.float32)
    voices[:, 0] *= 2  # 6 dB over the other
    return voices.sum(1), np.ones((batch, 2, 25), np.float32), voices


def test_a_row_tells_level_input_snr_and_what_is_not_seen():
    mixture, seen, voices = batch()
    seen[:2, 0] = 0
    row = drift.row(mixture, seen, voices)
    assert tuple(row) == drift.COLUMNS
    assert row["input_snr_db"] == pytest.approx(6.02, abs=0.1)
    assert row["level_dbfs"] == pytest.approx(10 * np.log10(0.05), abs=0.1)
    assert row["lips_missing_rate"] == 0.25
    assert (row["speakers"], row["seconds"]) == (2, 1)
    assert row["quiet_share"] == 0


def test_ten_times_louder_is_20_db_more_until_it_clips():
    rows = [drift.row(np.clip(level * batch()[0], -1, 1), batch()[1]) for level in (0.1, 1.0, 100.0)]
    assert rows[1]["level_dbfs"] - rows[0]["level_dbfs"] == pytest.approx(20, abs=0.01)
    assert [row["clipped_share"] > 0.5 for row in rows] == [False, False, True]
    assert rows[0]["input_snr_db"] is None


def test_silence_is_told_in_finite_numbers():
    row = drift.row(
        np.zeros((2, 8000), np.float32), np.zeros((2, 2, 12), np.float32), np.zeros((2, 2, 8000), np.float32)
    )
    assert row["input_snr_db"] is None
    assert row["level_dbfs"] == -100
    assert (row["quiet_share"], row["lips_missing_rate"]) == (1, 1)


@pytest.mark.parametrize(
    ("role", "name"), [("reference", "av_separation.reference.json"), ("current", "av_separation.json")]
)
def test_the_bot_reads_the_file(tmp_path, role, name):
    rows = drift.Observations(role)
    for level in (0.05, 0.1, 0.2):
        rows.add(*batch(level))
    rows.add(*batch()[:2])
    path, told = rows.write(tmp_path)
    assert path == f"heal-observations/{name}"
    read = read_json(drift.MODEL, (tmp_path / path).read_bytes(), {})
    assert read.role is Role(role)
    assert tuple(read.table.column_names) == drift.COLUMNS
    assert read.table.num_rows == 4
    assert read.table.column("input_snr_db").null_count == 1
    assert told["batches"] == 4
    assert told["means"]["lips_missing_rate"] == 0
    json.dumps(told)


def test_very_many_batches_are_thinned_out_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(drift, "MOST_ROWS", 8)
    rows = drift.Observations("current")
    for number in range(40):
        rows.add(np.full((1, 320 * (number + 1)), 0.1), np.ones((1, 1, 1)))
    path, told = rows.write(tmp_path)
    kept = [each["seconds"] * 50 - 1 for each in json.loads((tmp_path / path).read_text())["rows"]]
    assert kept == pytest.approx([0, 8, 16, 24, 32])
    assert told["batches"] == 40
