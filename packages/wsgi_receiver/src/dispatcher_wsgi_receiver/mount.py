"""The receiver beside another WSGI application."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["mount"]


def mount(app: WSGIApplication, prefix: str, receiver: WSGIApplication) -> WSGIApplication:
    """A WSGI application that hands what is below the prefix to the receiver.

    The prefix moves from PATH_INFO to SCRIPT_NAME, so that what a request signs does not
    depend on where the receiver is mounted.

    Args:
        app: gets everything else.
        prefix: a path such as ``/dispatcher``; it covers itself and what follows it after a
            slash.
        receiver: what ``create_app()`` returns.

    Raises:
        ValueError: the prefix is empty, or does not start with a slash.
    """
    if not prefix.startswith("/") or not prefix.strip("/"):
        raise ValueError(f"prefix={prefix!r} must be a path such as '/dispatcher'")
    # PEP 3333: WSGI has the bytes of a path as latin-1 text.
    base = prefix.rstrip("/").encode("utf-8").decode("latin-1")

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path != base and not path.startswith(base + "/"):
            return app(environ, start_response)
        inside = dict(environ)
        inside["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + base
        inside["PATH_INFO"] = path[len(base) :]
        return receiver(inside, start_response)

    return mounted
