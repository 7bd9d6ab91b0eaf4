"""``dispatcher ping``: can jobs be sent, and would anybody run them?"""

import argparse
from dataclasses import asdict

from ..command import Command
from ..errors import DeliveryError
from ..printing import print_json, print_pairs, warn
from ..status import Pong
from .sending import add_backend, add_json, dispatcher_of

__all__ = ["command"]

# A tenth of what a signature allows: early enough to set a clock before anything fails.
_MUCH_SKEW = 30.0


def _configure(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    add_backend(parser)


def _run(arguments: argparse.Namespace) -> int:
    dispatcher = dispatcher_of(arguments)
    try:
        pong = dispatcher.ping()
    except DeliveryError as error:
        reachable = error.status is not None
        pong = Pong(reachable=reachable, secret_accepted=False, error=str(error))
    if arguments.json:
        print_json(asdict(pong))
    else:
        print_pairs(_rows(pong))
    _warn_of(pong)
    return 0 if pong.secret_accepted else 1


def _rows(pong: Pong) -> dict[str, str]:
    skew = "unknown" if pong.clock_skew is None else f"{pong.clock_skew:+.1f} s"
    return {
        "reachable": _yes(pong.reachable),
        "secret accepted": _yes(pong.secret_accepted),
        "clock skew": skew,
        "workers alive": "unknown" if pong.workers is None else str(pong.workers),
        "wire versions": ", ".join(map(str, pong.versions)) or "unknown",
    }


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _warn_of(pong: Pong) -> None:
    if pong.error is not None:
        warn(pong.error)
    if pong.workers == 0:
        warn("warning: no worker is alive, so jobs will wait: start `dispatcher work` there")
    if pong.error is None and abs(pong.clock_skew or 0.0) > _MUCH_SKEW:
        warn(f"warning: the clocks differ by {pong.clock_skew:+.0f} s, 300 s are the limit")


command = Command(
    help="check that the backend is reachable, accepts the secret and has workers",
    example="example: dispatcher ping --json",
    configure=_configure,
    run=_run,
)
