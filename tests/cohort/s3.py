"""A local S3 server that fails on request."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class S3Server:
    """An S3 server in threads of this process.

    Attributes:
        url: URL of its endpoint.
        served: (method, path) of every request.
    """

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.served: list[tuple[str, str]] = []
        self._fails: Callable[[str, str], bool] = lambda method, path: False
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()

    def fail_next(self, count: int) -> None:
        """Answer the next ``count`` requests with 500."""
        asked = itertools.count()
        self._fails = lambda method, path: next(asked) < count

    @contextmanager
    def failing(self, which: Callable[[str, str], bool]) -> Iterator[None]:
        """Answer requests that ``which`` selects by method and path with 500 while the block runs."""
        self._fails = which
        try:
            yield
        finally:
            self._fails = lambda method, path: False

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.served.append((method, path))
        if self._fails(method, path):
            length = int(environ.get("CONTENT_LENGTH") or 0)
            environ["wsgi.input"].read(length)
            start_response("500 Internal Server Error", [("Content-Type", "text/plain"), ("Content-Length", "4")])
            return [b"oops"]
        return self._app(environ, start_response)
