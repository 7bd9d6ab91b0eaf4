"""A request on its way out: checked, and such that no redirect carries it elsewhere."""

import re
import urllib.request
from urllib.parse import SplitResult, urlsplit

from dispatcher_core.errors import SendFailed
from dispatcher_core.protocols import Request

__all__ = ["FinalRequest", "check_request"]

_PORTS = {"http": 80, "https": 443}
_VISIBLE = re.compile(r"[\x21-\x7e]+")
# RFC 9110, sections 5.6.2 and 5.5, without the obsolete characters outside of ASCII.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
# No percent-encoding: urllib.request would decode it, into a blank or a line's end too.
_HOST = re.compile(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+")


class FinalRequest(urllib.request.Request):
    """A request that a handler for redirects does not follow.

    To such a handler it looks like one that was redirected as often as is allowed, so that
    the redirect comes back as the answer. A handler that follows all the same drops the body
    and these headers, among them the signature.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request.url, data=request.body or None, method=request.method)
        self.redirect_dict = dict.fromkeys(
            map(str, range(urllib.request.HTTPRedirectHandler.max_redirections)), 1
        )
        for name, value in request.headers.items():
            self.add_unredirected_header(name, value)


def check_request(request: Request) -> str:
    """The host and port that the request goes to, as ``host:port``.

    Raises:
        SendFailed: it must not be sent: it could smuggle in lines, or leave http and https.
    """
    if not _TOKEN.fullmatch(request.method):
        raise _refused("the method is no HTTP token")
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name):
            raise _refused("the name of a header is no HTTP token")
        if not _VALUE.fullmatch(value):
            raise _refused(f"the header {name} has a control character, or one outside of ASCII")
    if not _VISIBLE.fullmatch(request.url):
        raise _refused("the url has a blank, a control character, or one outside of ASCII")
    return _place(request.url)


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, port = _host(parts), parts.port
    except ValueError:
        raise _refused("the url has no valid host and port") from None
    if parts.scheme not in _PORTS:
        raise _refused("the url must start with https:// or http://")
    if "@" in parts.netloc:
        raise _refused("the url must not have a user or a password")
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{_PORTS[parts.scheme] if port is None else port}"


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if parts.scheme in _PORTS and not _HOST.fullmatch(host):
        raise ValueError(host)
    # Raises UnicodeError, a ValueError, for empty and overlong labels, as a look-up would.
    host.encode("idna")
    return host


def _refused(reason: str) -> SendFailed:
    return SendFailed(f"nothing was sent: {reason}", "rejected", retryable=False)
