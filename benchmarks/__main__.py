"""`python -m benchmarks` lists the benchmarks; `python -m benchmarks NAME [OPTIONS]` runs bench_NAME.py."""

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(args: list[str]) -> int:
    found = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    if not args or args[0] in ("-h", "--help"):
        print(f"{__doc__}\n")
        for name, path in found.items():
            about = ast.get_docstring(ast.parse(path.read_text())) or ""
            print(f"{name:<12} {about.partition(chr(10))[0]}")
        return 0
    if args[0] not in found:
        print(f"no benchmark {args[0]!r}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    sys.argv = [f"benchmarks {args[0]}", *args[1:]]
    runpy.run_module(f"benchmarks.{found[args[0]].stem}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
