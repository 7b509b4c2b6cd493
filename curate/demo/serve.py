"""The demo's web server, on loopback: files as they are, and the faults that `answers.json` names.

with serve(folder, 8765) as url: ...           # http://127.0.0.1:8765
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

from curate.errors import UserError

TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
SILENCE_S = 30.0  # longer than any patience that the demo's recipe has


@dataclass(frozen=True)
class Answer:
    """How a file is answered other than plainly; `type` null: by its suffix. Silent: a connection, then nothing."""

    status: int = 200
    type: str | None = None
    silent: bool = False


@contextmanager
def serve(folder: Path, port: int) -> Iterator[str]:
    """Serve the files of a web (`curate.demo.web`) while the block runs; gives the base URL.

    Raises:
        UserError: the port is taken.
    """
    answers = {name: Answer(**a) for name, a in json.loads((folder / "answers.json").read_text()).items()}
    closing = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            path = folder / "files" / name
            if "/" in name or not path.is_file():
                self._send(404, "text/plain", b"no such file")
                return
            answer = answers.get(name, Answer())
            if answer.silent:
                closing.wait(SILENCE_S)
                self.close_connection = True
                return
            self._send(answer.status, answer.type or TYPES[path.suffix[1:]], path.read_bytes())

        def _send(self, status: int, type: str, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Quiet: a run's own progress is what a person wants to see."""

    try:
        server = _Server(("127.0.0.1", port), Handler)
    except OSError as e:
        raise UserError(f"port {port} of this machine is taken ({e.strerror}); choose another with --port") from e
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away (the one that waits for an answer that never comes) is part of the play."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
