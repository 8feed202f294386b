"""Shows reports to a browser: the latest at ``/``, each run's files below its name; read only, and no folder listed."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from fedfm.errors import EngineError

LATEST = "/latest/report.html"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _Reports(SimpleHTTPRequestHandler):
    server_version, sys_version = "fedfm", ""

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Answer ``/`` with where the latest report is, and a file with itself."""
        if self.path != "/":
            return super().send_head()
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", LATEST)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def list_directory(self, path: object) -> None:
        """Refuse: a folder may hold more than its reports."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        """Send what tells a browser to load nothing else."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests: a health check asks every few seconds."""


def serve_reports(results: Path, *, host: str, port: int, tell: Callable[[str], object]) -> None:
    """Serve the folder ``results`` until the process is ended; says first where.

    Raises:
        EngineError: The port is taken, or the address is none of this machine.
    """
    with make_server(results, host=host, port=port) as server:
        name = f"[{host}]" if ":" in host else host
        tell(f"Reports: http://{name}:{server.server_address[1]}/")
        server.serve_forever()


def make_server(results: Path, *, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that listens already; raises like ``serve_reports``."""
    try:
        return ThreadingHTTPServer((host, port), partial(_Reports, directory=str(results)))
    except OSError as error:
        raise EngineError(
            "ENGINE-E110",
            "a port is taken by another program",
            where=f"{host}:{port}",
            found=str(error.strerror),
            fix="see who has it (ss -ltnp), or name another with --port",
        ) from error
