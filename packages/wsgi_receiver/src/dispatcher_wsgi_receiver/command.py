"""``dispatcher serve``: the receiver on the server of the standard library."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

from dispatcher_core.command import Command
from dispatcher_core.config import Config
from dispatcher_core.urls import without_password

from .application import create_app
from .server import Server

__all__ = ["serve"]

_DRAIN_SECONDS = 5.0


def _configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=8000, help="0 for a free one (%(default)s)")
    add("--app-dir", type=_folder, default=".", help="folder to import from (%(default)s)")


def _run(arguments: argparse.Namespace) -> int:
    sys.path.insert(0, str(arguments.app_dir))
    config = Config.load()
    app = create_app(config)
    address = f"{arguments.host}:{arguments.port}"
    try:
        server = Server(arguments.host, arguments.port, app)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"dispatcher: cannot listen on {address}: {reason}", file=sys.stderr)
        return 1
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
    # SimpleQueue.put() may be called in a signal handler; the lock of an Event may not.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.put(number))
    threading.Thread(target=server.serve_forever, name="serve", daemon=True).start()
    print(f"queue {queue_url}")
    print(f"listening on {server.url}", flush=True)
    name = signal.Signals(signals.get()).name
    print(f"stopping on {name}", flush=True)
    server.shutdown()
    server.server_close()
    server.drain(_DRAIN_SECONDS)


def _set_up_logging() -> None:
    """Log to standard error, unless the application has set up logging of its own."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    own = logging.getLogger("dispatcher")
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)
    for logger in (own, own.getChild("receiver"), own.getChild("server")):
        logger.disabled = False  # a dictConfig of the application disables what it finds


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: use 0 to 65535")
    return int(text)


def _folder(text: str) -> Path:
    path = Path(text).absolute()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path
