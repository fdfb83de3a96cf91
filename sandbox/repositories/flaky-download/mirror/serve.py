"""The dataset mirror on the local machine: serves data/ over HTTP on a free port of the loopback interface.

Like the real one it is cold when the first attempt of a run meets it, and resets every connection while it warms up;
by the time somebody runs the jobs again it answers. GITHUB_RUN_ATTEMPT tells which attempt this is.
"""

import argparse
import functools
import os
import socket
import struct
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DATA = Path(__file__).parent.parent / "data"


class MirrorHandler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if os.environ.get("GITHUB_RUN_ATTEMPT") == "1":
            # A linger time of zero makes close() send a reset instead of an orderly end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        else:
            super().do_GET()


class Mirror(ThreadingHTTPServer):
    def shutdown_request(self, request: socket.socket) -> None:
        self.close_request(request)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url-file", type=Path, required=True, help="where to write the address once it is known")
    arguments = parser.parse_args()
    server = Mirror(("127.0.0.1", 0), functools.partial(MirrorHandler, directory=DATA))
    unfinished = arguments.url_file.with_suffix(".part")
    unfinished.write_text(f"http://127.0.0.1:{server.server_port}")
    unfinished.replace(arguments.url_file)
    server.serve_forever()


if __name__ == "__main__":
    main()
