"""``python -m dispatcher_core``: the ``dispatcher`` program."""

from .cli import main

__all__: list[str] = []

if __name__ == "__main__":
    raise SystemExit(main())
