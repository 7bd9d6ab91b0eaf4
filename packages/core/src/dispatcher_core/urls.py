"""The URLs of the configuration: the backend's, and the queue's."""

import ipaddress
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

__all__ = ["anchored", "backend_url", "is_private", "queue_url", "without_password"]

_HOST = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.*")
# Folders are called what they are called; ? or # in the name of the file is meant for a query.
_SQLITE_FILE = re.compile(r"(?i:sqlite):///(?!:memory:)(?P<path>(?:[^\0]*/)?[^/?#\0-\x1f\x7f]+)")
_PASSWORD = re.compile(r"(?<=://)([^/@]*):[^/]*@")
_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


def backend_url(value: object) -> str:
    """The base URL of a backend, without trailing slashes.

    Raises:
        ValueError: it is no http or https URL, or has userinfo, query or fragment. The text
            does not contain the URL, which may hold a password.
    """
    if not isinstance(value, str):
        raise ValueError(f"must be a text such as https://app-b.example, not {value!r}")
    if not re.fullmatch(r"[!-\[\]-~]+", value):
        raise ValueError(
            "must be a URL without blanks, backslashes, control and non-ASCII characters"
        )
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    _check_parts(value, parts)
    if host is None or not (_HOST.fullmatch(host) or _is_ipv6(host)) or port == 0:
        raise ValueError("has no host or port that can be reached")
    return f"{parts.scheme}://{_authority(host, port)}{parts.path.rstrip('/')}"


def _check_parts(url: str, parts: SplitResult) -> None:
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("must begin with https:// (or http://) and a host")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user or password: requests are signed instead")
    if "?" in url or "#" in url:
        raise ValueError("must not have a query or a fragment (? or #)")


def _authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def is_private(url: str) -> bool:
    """Whether nobody on the way can read or change what goes to a backend's URL.

    True for https, and for http to this machine as it is written: ``localhost``, 127.0.0.0/8
    or ``[::1]``. No name is looked up, since the answer could be another one later.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host in ("localhost", "::1"):
        return True
    try:
        return ipaddress.IPv4Address(host) in _LOOPBACK
    except ValueError:
        return False


def queue_url(value: object) -> str:
    """The URL of a queue, with a relative SQLite path resolved against the working directory.

    Raises:
        ValueError: it has no scheme, or is a SQLite URL without the path of a file.
    """
    if isinstance(value, str) and value.lower().startswith("sqlite:"):
        return _sqlite_url(value)
    if not isinstance(value, str) or not value.isprintable() or not _SCHEME.fullmatch(value):
        raise ValueError("must be a URL such as sqlite:///dispatcher.sqlite3")
    return value


def _sqlite_url(url: str) -> str:
    if not _SQLITE_FILE.fullmatch(url):
        raise ValueError(
            "must name a file, as in sqlite:///relative/path.sqlite3 or"
            " sqlite:////absolute/path.sqlite3, without ?, # and control characters in its name"
        )
    try:
        return anchored(url, Path())
    except FileNotFoundError:
        raise ValueError("is relative to a working directory that does not exist") from None


def anchored(url: str, folder: Path) -> str:
    """The URL with a relative SQLite path resolved against a folder; any other text as it is."""
    match = _SQLITE_FILE.fullmatch(url)
    return f"sqlite:///{(folder / match['path']).absolute()}" if match else url


def without_password(url: str) -> str:
    """The URL with its password, if it has one, replaced by asterisks."""
    return _PASSWORD.sub(r"\1:********@", url)
