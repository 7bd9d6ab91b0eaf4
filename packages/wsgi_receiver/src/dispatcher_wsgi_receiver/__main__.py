"""``python -m dispatcher_wsgi_receiver`` is ``dispatcher serve``."""

import sys

from dispatcher_core.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
