"""``dispatcher serve``: the receiver on the server of the standard library."""

import argparse
import logging
import os
import signal
import sys
import threading

from dispatcher_core.arguments import folder, whole
from dispatcher_core.command import Command
from dispatcher_core.config import Config
from dispatcher_core.errors import DispatcherError
from dispatcher_core.urls import without_password

from .application import create_app, open_queue
from .server import Server

__all__ = ["serve"]

_DRAIN_SECONDS = 5.0
_STOPPING = (signal.SIGINT, signal.SIGTERM)


def _configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", type=_host, default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=whole(0, 65535), default=8000, help="0 for a free one (%(default)s)")
    add("--app-dir", type=folder, default=".", help="folder to import from (%(default)s)")


def _run(arguments: argparse.Namespace) -> int:
    sys.path.insert(0, str(arguments.app_dir))
    config = Config.load()
    queue = open_queue(config.queue_url)
    app = create_app(config, queue=queue)
    queue.workers()  # opens the queue: what is wrong with it is said here
    address = f"{arguments.host}:{arguments.port}"
    try:
        server = Server(arguments.host, arguments.port, app)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DispatcherError(f"cannot listen on {address}: {reason}") from error
    _set_up_logging()
    _serve_until_signal(server, without_password(config.queue_url))
    return 0


serve = Command(
    help="receive jobs over HTTP with a small server, for development and light use",
    example="example: dispatcher serve --port 8000 --app-dir src",
    configure=_configure,
    run=_run,
)


def _serve_until_signal(server: Server, queue_url: str) -> None:
    signals = _caught_signals()
    threading.Thread(target=server.serve_forever, name="serve", daemon=True).start()
    print(f"queue {queue_url}")
    print(f"listening on {server.url}", flush=True)
    while (number := os.read(signals, 1)[0]) not in _STOPPING:
        pass
    try:
        print(f"stopping on {signal.Signals(number).name}", flush=True)
    finally:  # whether or not there is anybody left to read it
        server.shutdown()
        server.server_close()
        server.drain(_DRAIN_SECONDS)


def _caught_signals() -> int:
    """A descriptor to read the numbers of signals from.

    Handlers run in the main thread only, and nobody wakes that when another one has taken the
    signal, as one that starts a thread may.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _STOPPING:
        signal.signal(number, lambda *_: None)
    return reading


def _set_up_logging() -> None:
    """Log to standard error, unless the application has set up logging of its own."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    own = logging.getLogger("dispatcher")
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)
    for logger in (own, own.getChild("receiver"), own.getChild("server")):
        logger.disabled = False  # a dictConfig of the application disables what it finds


def _host(text: str) -> str:
    if not text:  # to the system that means every address there is
        raise argparse.ArgumentTypeError("it is empty: name an address, 0.0.0.0 for every one")
    return text
