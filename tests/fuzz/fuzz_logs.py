"""Feeds the readers of logs and the diagnosis with bytes that grow by coverage. Not part of `make test`:

    uv run --extra peers python -m tests.fuzz.fuzz_logs -max_total_time=60 [FOLDER OF LOGS TO START WITH]

The options are libFuzzer's. A crash is kept as a file `crash-…`, which the same command takes instead of a folder.
"""

import io
import json
import sys

import atheris

with atheris.instrument_imports(include=["app", "detectors"]):
    from app.adapters.github.logs import read_templates
    from app.adapters.logfile import templates_in
    from app.commands.diagnose import as_json, causes_of, report
    from app.domain.errors import Malformed


def one(content: bytes) -> None:
    """Nothing but Malformed may be raised; line numbers are those of the file."""
    try:
        causes = causes_of(io.BytesIO(content))
        templates_in(io.BytesIO(content))
    except Malformed:
        return
    read_templates(io.BytesIO(content))
    json.dumps(as_json(causes))
    list(report(causes))
    if content[:2] not in (b"PK", b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff"):
        last = content.count(b"\n") + 1
        assert all(1 <= line.number <= last for told in causes for line in told.cause.ranked)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
