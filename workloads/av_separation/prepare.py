"""Reads films once, so that a training need not find their faces again each time:

    python -m workloads.av_separation.prepare FILMS --out DIR

writes the sound and the mouth of the face that is seen most in each, and DIR/manifest.jsonl, which is then the `data`
of a run. Called again after a stop, it goes on. A film that cannot be read is named and left out.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import soundfile

from workloads.av_separation import data, media
from workloads.av_separation.mixing import RATE, SAMPLES_A_FRAME
from workloads.av_separation.recordings import mouths_in
from workloads.contract import EXIT_CODES, Failure, RunFailed

MANIFEST = "manifest.jsonl"


def main(told: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workloads.av_separation.prepare", description=__doc__.split("\n")[0]
    )
    parser.add_argument("films", type=Path, metavar="FILMS", help="a folder of films with one speaking face each")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to")
    args = parser.parse_args(told)
    rows, left_out, unseen = [], 0, 0
    films = data.films(args.films)
    names: set[Path] = set()
    for film in films:
        whole = film.clean[0].relative_to(args.films)
        name = whole.with_suffix("")
        if name in names:  # a.mov beside a.mp4 is another film
            name = whole
        names.add(name)
        try:
            seen = prepare(film.clean[0], args.out / name)
        except RunFailed as failed:
            if failed.kind not in (Failure.DATA_MISSING, Failure.DATA_MALFORMED):
                sys.stderr.write(f"{failed}\n")
                return EXIT_CODES[failed.kind]
            left_out += 1
            sys.stderr.write(f"left out {film.clean[0]}: {failed}\n")
            continue
        unseen += not seen
        row = {"clean": f"{name.as_posix()}.flac", "video": f"{name.as_posix()}.npz" if seen else ""}
        rows.append({**row, "voice": film.voice[0], "split": film.split})
    if not rows:
        sys.stderr.write(f"{args.films}: none of {len(films)} films could be read\n")
        return 1
    write(args.out / MANIFEST, "".join(json.dumps(row) + "\n" for row in rows).encode())
    sys.stdout.write(f"{args.out / MANIFEST}: {len(rows)} films, {unseen} without a face, {left_out} left out\n")
    return 0


def prepare(film: Path, stem: Path) -> bool:
    """Writes STEM.flac and STEM.npz, unless they are there. False: no face is seen, and there is no STEM.npz. Raises
    RunFailed."""
    sound, mouths = stem.with_name(f"{stem.name}.flac"), stem.with_name(f"{stem.name}.npz")
    if sound.is_file():  # it is written last
        return mouths.is_file()
    stem.parent.mkdir(parents=True, exist_ok=True)
    audio = media.read_audio(film)
    pictures, seen = mouths_in(film)
    if seen.any():
        part = mouths.with_name(f".{mouths.name}")
        np.savez_compressed(part, data=pictures, seen=seen.astype(np.uint8))
        part.replace(mouths)
    frames = len(audio) // SAMPLES_A_FRAME
    part = sound.with_name(f".{sound.name}")
    soundfile.write(part, audio[: frames * SAMPLES_A_FRAME], RATE, format="FLAC", subtype="PCM_16")
    part.replace(sound)
    return bool(seen.any())


def write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}")
    part.write_bytes(content)
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
