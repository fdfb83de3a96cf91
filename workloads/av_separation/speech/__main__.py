"""Makes a corpus: python -m workloads.av_separation.speech --out DIR --minutes 60"""

import argparse
import os
import sys
from pathlib import Path

from workloads.av_separation.mixing import FPS
from workloads.av_separation.speech import corpus
from workloads.av_separation.speech.voices import Engines, NoVoice, Voice

VOICES = (
    "flite:awb,flite:slt,flite:kal16,flite:awb@0.90,flite:awb@1.10,flite:slt@0.88,flite:slt@1.10,flite:kal16@1.12,"
    "espeak:en-us+m3,espeak:en-gb-scotland+f2,espeak:en-us+f4,espeak:en+m7"
)
HELD_OUT = "flite:rms,flite:rms@1.12,espeak:en-gb-x-rp+f5,espeak:en-us+m1"


def main(told: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workloads.av_separation.speech",
        description="Makes a corpus of speech with mouths, from Debian's packages flite and espeak-ng. Give its folder"
        " to the workload as --set data=DIR.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to; made anew")
    parser.add_argument("--minutes", type=float, default=60, help="of speech to train with (default: %(default)s)")
    parser.add_argument("--valid-minutes", type=float, help="of the same voices, not trained with (default: a tenth)")
    parser.add_argument("--test-minutes", type=float, help="of the held-out voices (default: a tenth)")
    parser.add_argument(
        "--voices", default=VOICES, help="flite:slt, espeak:en-us+f2, and @1.1 for higher (default: %(default)s)"
    )
    parser.add_argument("--held-out", default=HELD_OUT, help="voices of the test alone (default: %(default)s)")
    parser.add_argument(
        "--people", type=Path, metavar="DIR", help="/usr/share/pocketsphinx/test/data of pocketsphinx-testdata"
    )
    parser.add_argument("--flite", metavar="PATH", help="the program, where it is not on the PATH")
    parser.add_argument("--espeak", metavar="PATH", help="libespeak-ng.so.1, where the linker does not find it")
    parser.add_argument("--espeak-data", metavar="DIR", help="the folder that holds espeak-ng-data")
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed makes the same corpus (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    args = parser.parse_args(told)

    voices, held_out = args.voices.split(","), args.held_out.split(",")
    if both := sorted(set(voices) & set(held_out)):
        parser.error(f"--voices and --held-out have both {', '.join(both)}")
    tenth = max(0.25, args.minutes / 10)
    plan = (
        ("train", voices, args.minutes),
        ("valid", voices, tenth if args.valid_minutes is None else args.valid_minutes),
        ("test", held_out, tenth if args.test_minutes is None else args.test_minutes),
    )
    engines = Engines(args.flite, args.espeak, args.espeak_data)
    frames = dict.fromkeys(("train", "valid", "test"), 0)
    try:
        for name in (*voices, *held_out):
            Voice.named(name)
        for made in corpus.make(args.out, engines, plan, seed=args.seed, jobs=args.jobs):
            frames[made.row["split"]] += made.row["frames"]
        if args.people is not None:
            corpus.add_people(args.out, people(args.people))
    except NoVoice as error:
        sys.stderr.write(f"{error}\n")
        return 3
    spoken = ", ".join(f"{count / FPS / 60:.1f} min to {split}" for split, count in frames.items())
    sys.stdout.write(f"{args.out}: {spoken}\n")
    return 0


def people(folder: Path) -> list[tuple[Path, str, str]]:
    """The recordings of Debian's pocketsphinx-testdata: who reads, and what."""
    found = []
    for name, voice in (("librivox/transcription", "librivox-reader"), ("cards/cards.transcription", "cards-player")):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            text, _, clip = line.rpartition("(")
            said = text.replace("<s>", "").replace("</s>", "").strip()
            found.append(((folder / name).parent / f"{clip.rstrip(')')}.wav", voice, said))
    return found


if __name__ == "__main__":
    sys.exit(main())
