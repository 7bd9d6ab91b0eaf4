"""The sender against real servers on loopback."""

import gc
import json
import socket
import struct
import threading
import time
import urllib.request

import pytest

from dispatcher_core.errors import ConfigError, SendFailed
from dispatcher_core.plugins import SENDERS, load_plugin
from dispatcher_core.protocols import Request, Response
from dispatcher_http_sender import UrllibSender
from dispatcher_http_sender.handlers import DeadlineHTTPHandler, DeadlineHTTPSHandler

HEADERS = {
    "Content-Type": "application/json",
    "webhook-id": "job_1",
    "webhook-signature": "v1,c2VjcmV0",
}
BODY = b'{"type":"dispatch","job":"send-mail"}'
MEBIBYTE = 1024 * 1024


def answer(status="200 OK", body=b"{}", *headers):
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answering(data):
    """A script that reads the request, sends this, and closes."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(data)

    return script


def dripping(start, drip):
    """A script that sends a start at once, and then the rest over and over, slowly."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(start)
        while not server.stopping.wait(0.05):
            connection.sendall(drip)

    return script


def reset(connection):
    """Close so that the other side sees a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def post(url, body=BODY, headers=HEADERS):
    return Request("POST", url, headers, body)


def get(url):
    return Request("GET", url, HEADERS)


def fail(request, timeout=5.0, sender=None):
    """The error of a try that must fail."""
    with pytest.raises(SendFailed) as caught:
        (sender or UrllibSender()).send(request, timeout)
    return caught.value


def fail_in_time(request, timeout=0.5, sender=None):
    """The error of a try that must fail with a timeout, and soon."""
    began = time.monotonic()
    error = fail(request, timeout, sender)
    elapsed = time.monotonic() - began
    assert error.code == "timeout", error
    assert error.retryable
    assert timeout <= elapsed < 2 * timeout + 1
    return error


def test_answer(serve):
    """Status, header in lower case and body of an answer come back."""
    body = json.dumps({"id": "job_1", "state": "queued"}).encode()
    server = serve(answering(answer("202 Accepted", body, "Content-Type: application/json")))

    response = UrllibSender().send(post(server.url), 5.0)

    assert response == Response(
        202, {"content-length": str(len(body)), "content-type": "application/json"}, body
    )


def test_request_on_the_wire(serve):
    """The request carries method, path, host, header and body, and no form's content type."""
    server = serve(answering(answer()))

    UrllibSender().send(post(server.url), 5.0)

    header, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = header.decode().split("\r\n")
    assert lines[0] == "POST /dispatch HTTP/1.1"
    assert {
        f"Host: {server.place}",
        f"Content-Length: {len(BODY)}",
        "Content-Type: application/json",
        "Webhook-Id: job_1",
        "Webhook-Signature: v1,c2VjcmV0",
        "User-Agent: dispatcher-http-sender",
    } <= set(lines)
    assert body == BODY


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_without_body(serve, method):
    """A request without a body says nothing of one."""
    server = serve(answering(answer()))

    UrllibSender().send(Request(method, server.url, {}), 5.0)

    assert server.requests[0].startswith(f"{method} /dispatch HTTP/1.1\r\n".encode())
    assert b"content-" not in server.requests[0].lower()


def test_empty_post(serve):
    """A POST of an empty body states its length."""
    server = serve(answering(answer()))

    UrllibSender().send(post(server.url, b""), 5.0)

    assert b"Content-Length: 0\r\n" in server.requests[0]


@pytest.mark.parametrize(
    "status", ["400 Bad Request", "401 Unauthorized", "404 Not Found", "407 Proxy", "429 Slow"]
)
@pytest.mark.parametrize("opener", [None, urllib.request.build_opener()])
def test_refusal_is_an_answer(serve, status, opener):
    """A 4xx is an answer like any other, with its body."""
    server = serve(answering(answer(status, b'{"code":"x"}', "Retry-After: 7")))

    response = UrllibSender(opener).send(post(server.url), 5.0)

    assert int(status[:3]) == response.status
    assert response.headers["retry-after"] == "7"
    assert response.body == b'{"code":"x"}'


@pytest.mark.parametrize("opener", [None, urllib.request.build_opener()])
def test_server_error_is_an_answer(serve, opener):
    """A 5xx is an answer like any other."""
    server = serve(answering(answer("503 Service Unavailable", b"later")))

    response = UrllibSender(opener).send(get(server.url), 5.0)

    assert (response.status, response.body) == (503, b"later")


@pytest.mark.parametrize("status", ["301 A", "302 B", "303 C", "307 D", "308 E"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("own", [False, True])
def test_redirect_is_an_answer(serve, status, method, own):
    """No redirect is followed, not even by an opener that would: nobody else is asked."""
    other = serve(answering(answer()))
    server = serve(answering(answer(status, b"moved", f"Location: {other.url}")))
    sender = UrllibSender(urllib.request.build_opener() if own else None)

    response = sender.send(Request(method, server.url, HEADERS), 5.0)

    assert (int(status[:3]), b"moved") == (response.status, response.body)
    assert other.url == response.headers["location"]
    assert other.connections == 0


class Insistent(urllib.request.HTTPRedirectHandler):
    """Follows more redirects than the standard library does."""

    max_redirections = 1000


def test_followed_redirect_is_refused(serve):
    """An opener that follows all the same is found out, and took no signature along."""
    other = serve(answering(answer()))
    server = serve(answering(answer("302 Found", b"", f"Location: {other.url}")))
    sender = UrllibSender(urllib.request.build_opener(Insistent()))

    error = fail(post(server.url), sender=sender)

    assert (error.code, error.retryable) == ("bad-answer", False)
    assert "redirect" in str(error)
    assert b"webhook" not in other.requests[0].lower()
    assert BODY not in other.requests[0]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_malformed_location(serve):
    """A Location that is no url is no traceback, whatever opener there is."""
    server = serve(answering(answer("302 Found", b"", "Location: http://[half")))

    error = fail(get(server.url), sender=UrllibSender(urllib.request.build_opener()))

    assert error.code == "bad-answer"
    # The handler for redirects forgets the answer; have it collected here, not in another test.
    del error
    gc.collect()


def test_refused_port(free_port):
    """A port that nobody listens on is unreachable; the message says where and why."""
    error = fail(post(f"http://127.0.0.1:{free_port}/dispatch"))

    assert (error.code, error.retryable) == ("unreachable", True)
    assert f"no answer from 127.0.0.1:{free_port}: Connection refused" == str(error)


def test_unknown_host():
    """A host without an address is unreachable (``invalid`` never has one, RFC 6761)."""
    error = fail(get("http://dispatcher.invalid/jobs/1"), 60.0)

    assert (error.code, error.retryable) == ("unreachable", True)
    assert "dispatcher.invalid:80" in str(error)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
def test_cut_off_answer(serve, start):
    """An answer that ends early, wherever, is unreachable: it may have been lost on the way."""
    error = fail(post(serve(answering(start)).url))

    assert (error.code, error.retryable) == ("unreachable", True)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
def test_reset(serve, start):
    """A connection that is reset while the answer is awaited or read is unreachable."""

    def script(connection, server):
        server.read_request(connection)
        connection.sendall(start)
        reset(connection)

    error = fail(post(serve(script).url))

    assert (error.code, error.retryable) == ("unreachable", True)


def test_cut_off_error_answer_of_own_opener(serve):
    """A cut-off answer is found out behind an HTTPError too."""
    start = b"HTTP/1.1 422 No\r\nContent-Length: 10\r\n\r\nhalf"

    error = fail(
        post(serve(answering(start)).url), sender=UrllibSender(urllib.request.build_opener())
    )

    assert error.code == "unreachable"


def test_chunked_answer(serve):
    """A chunked answer comes back whole."""
    chunks = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
    server = serve(answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks))

    assert UrllibSender().send(get(server.url), 5.0).body == b"hello world"


def test_answer_until_close(serve):
    """An answer without a length ends with the connection."""
    server = serve(answering(b"HTTP/1.0 200 OK\r\n\r\nall of it"))

    assert UrllibSender().send(get(server.url), 5.0).body == b"all of it"


def test_informational_answers_are_skipped(serve):
    """A 100 is not the answer."""
    server = serve(answering(b"HTTP/1.1 100 Continue\r\n\r\n" + answer("202 Accepted")))

    assert UrllibSender().send(post(server.url), 5.0).status == 202


def test_interim_answer_to_own_opener(serve):
    """An opener that does not skip an interim answer is told apart from a final one."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    server = serve(answering(hints + answer("200 OK")))

    error = fail(get(server.url), sender=UrllibSender(urllib.request.build_opener()))

    assert (error.code, error.retryable) == ("bad-answer", False)
    assert "is the interim 103" in str(error)


def test_repeated_and_folded_header(serve):
    """Fields of one name become one list, and a folded line one line."""
    data = answer("200 OK", b"{}", "Via: a", "Via: b", "X-Long: one\r\n two")

    headers = UrllibSender().send(get(serve(answering(data)).url), 5.0).headers

    assert (headers["via"], headers["x-long"]) == ("a, b", "one two")


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    ],
    ids=["status", "name", "fields", "100s", "body", "close", "size", "chunks", "trailer"],
)
def test_drip_is_bounded(serve, start, drip):
    """A server that sends a little now and then does not stretch the deadline."""
    error = fail_in_time(post(serve(dripping(start, drip)).url))

    assert "within 0.5 s" in str(error)


def test_drip_over_tls_is_bounded(serve, server_context, client_context):
    """Nor does one that drips over TLS."""
    server = serve(dripping(b"HTTP/1.1 200 OK\r\n", b"X"), server_context)
    opener = urllib.request.build_opener(DeadlineHTTPSHandler(client_context))

    fail_in_time(post(server.url), sender=UrllibSender(opener))


def test_dripped_body_of_own_opener_is_bounded(serve):
    """With a caller's opener the body's drip is bounded all the same."""
    server = serve(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x"))

    fail_in_time(get(server.url), sender=UrllibSender(urllib.request.build_opener()))


def test_dripped_header_of_opener_with_our_handlers_is_bounded(serve):
    """An opener built with the handlers of this package has one deadline for everything."""
    opener = urllib.request.build_opener(DeadlineHTTPHandler())
    server = serve(dripping(b"HTTP/1.1 200 OK\r\n", b"X"))

    fail_in_time(get(server.url), sender=UrllibSender(opener))


def silent(connection, server):
    server.stopping.wait()


def test_no_answer(serve):
    """A server that accepts and says nothing is a timeout."""
    server = serve(silent)

    error = fail_in_time(get(server.url))

    assert f"no answer from {server.place} within 0.5 s" == str(error)


def test_no_handshake(serve):
    """A server that never answers the TLS handshake is a timeout."""
    fail_in_time(get(serve(silent).url.replace("http:", "https:")))


def test_body_that_is_not_read(serve):
    """A server that neither reads the body nor answers is a timeout."""
    fail_in_time(post(serve(silent).url, b"x" * (64 * MEBIBYTE)))


def test_body_that_is_read_slowly(serve):
    """A server that reads the body slowly does not stretch the deadline."""

    def script(connection, server):
        while not server.stopping.wait(0.05):
            connection.recv(1024)

    fail_in_time(post(serve(script).url, b"x" * (64 * MEBIBYTE)))


def test_no_time_left(serve):
    """Without time nothing is sent."""
    server = serve(answering(answer()))

    assert fail(get(server.url), 0.0).code == "timeout"
    assert server.connections == 0


def test_slow_look_up(monkeypatch):
    """A resolver that hangs does not stretch the deadline."""
    released = threading.Event()
    genuine = socket.getaddrinfo

    def hanging(host, port, *, type, flags):
        if not flags & socket.AI_NUMERICHOST:
            released.wait(30)
        return genuine(host, port, type=type, flags=flags)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    fail_in_time(get("http://localhost:9/jobs/1"))
    released.set()


def test_host_by_name(serve):
    """A host may be given by its name."""
    server = serve(answering(answer()))

    url = server.url.replace("127.0.0.1", "localhost")

    assert UrllibSender().send(get(url), 5.0).status == 200


@pytest.mark.parametrize(
    "start",
    [
        f"HTTP/1.1 200 OK\r\nContent-Length: {2 * MEBIBYTE}\r\n\r\n".encode(),
        b"HTTP/1.1 200 OK\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{2 * MEBIBYTE:x}\r\n".encode(),
    ],
)
def test_oversized_answer(serve, start):
    """An answer over 1 MiB is refused, however its length is told."""
    error = fail(get(serve(answering(start + b"x" * (2 * MEBIBYTE))).url))

    assert (error.code, error.retryable) == ("bad-answer", False)
    assert "1048576 bytes" in str(error)


def test_largest_answer(serve):
    """An answer of exactly 1 MiB is read."""
    server = serve(answering(answer("200 OK", b"x" * MEBIBYTE)))

    assert len(UrllibSender().send(get(server.url), 5.0).body) == MEBIBYTE


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
    ],
)
def test_answer_that_is_not_http(serve, data):
    """What is not HTTP is a bad answer, and is not quoted."""
    server = serve(answering(data))

    error = fail(get(server.url))

    assert (error.code, error.retryable) == ("bad-answer", False)
    assert server.place in str(error)
    assert "SSH" not in str(error)


def refusing_early(connection, server):
    """Answer after the header, and close on the body that still comes."""
    connection.recv(1024)
    connection.sendall(answer("413 Content Too Large", b'{"code":"too-large"}'))


@pytest.mark.parametrize("size", [1, 16])
def test_early_refusal(serve, size):
    """A refusal that comes while the body is being sent is seen as such."""
    response = UrllibSender().send(post(serve(refusing_early).url, b"x" * (size * MEBIBYTE)), 10.0)

    assert (response.status, response.body) == (413, b'{"code":"too-large"}')


def test_early_refusal_over_tls(serve, server_context, client_context):
    """The same over TLS."""
    opener = urllib.request.build_opener(DeadlineHTTPSHandler(client_context))
    server = serve(refusing_early, server_context)

    response = UrllibSender(opener).send(post(server.url, b"x" * (16 * MEBIBYTE)), 10.0)

    assert response.status == 413


def test_reset_while_sending(serve):
    """A connection that breaks while the body is being sent, without an answer, is unreachable."""

    def script(connection, server):
        connection.recv(1024)
        reset(connection)

    error = fail(post(serve(script).url, b"x" * (16 * MEBIBYTE)))

    assert (error.code, error.retryable) == ("unreachable", True)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "FILE:///etc/hostname",
        "data:text/plain,hello",
        "ftp://127.0.0.1/x",
        "dispatch",
        "<URL:file:///etc/hostname>",
    ],
)
@pytest.mark.parametrize("opener", [None, urllib.request.build_opener()])
def test_other_schemes(url, opener):
    """Only http and https are opened, whatever the opener can do."""
    error = fail(Request("GET", url, {}), sender=UrllibSender(opener))

    assert (error.code, error.retryable) == ("rejected", False)
    assert "https://" in str(error)


def test_environment_proxy_is_ignored(serve, monkeypatch):
    """A proxy that the environment names sees nothing by default."""
    proxy, server = serve(answering(answer("502 Bad Gateway"))), serve(answering(answer()))
    monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert UrllibSender().send(post(server.url), 5.0).status == 200
    assert proxy.connections == 0


@pytest.fixture
def proxied(monkeypatch):
    """Names a server as the proxy of the environment, and sends through it."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    def sender(proxy):
        monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
        monkeypatch.setenv("https_proxy", f"http://{proxy.place}")
        return UrllibSender(use_environment_proxies=True)

    return sender


def test_environment_proxy_when_asked_for(serve, proxied):
    """The environment's proxy is used where that is asked for."""
    proxy = serve(answering(answer("203 By Proxy")))

    response = proxied(proxy).send(post("http://backend.invalid/dispatch"), 5.0)

    assert response.status == 203
    assert proxy.requests[0].startswith(b"POST http://backend.invalid/dispatch HTTP/1.1\r\n")


def test_proxy_that_refuses_the_tunnel(serve, proxied):
    """A proxy that opens no tunnel for https sees no header, and the error says why."""
    proxy = serve(answering(answer("403 Not You", b"")))

    error = fail(post("https://backend.invalid/dispatch"), sender=proxied(proxy))

    assert (error.code, error.retryable) == ("unreachable", True)
    assert "backend.invalid:443" in str(error)
    assert "403" in str(error)
    assert b"webhook" not in proxy.requests[0].lower()


def test_proxy_that_drips(serve, proxied):
    """A proxy does not stretch the deadline either."""
    proxy = serve(dripping(b"HTTP/1.1 200 OK\r\n", b"X"))

    fail_in_time(post("https://backend.invalid/dispatch"), sender=proxied(proxy))


def test_proxies_and_an_opener():
    """Asking for proxies on top of a caller's opener is a mistake, and says what to do."""
    with pytest.raises(ConfigError, match="ProxyHandler"):
        UrllibSender(urllib.request.build_opener(), use_environment_proxies=True)


def test_untrusted_certificate(serve, server_context):
    """A certificate that no authority signed is refused, and nothing is sent."""
    server = serve(answering(answer()), server_context)

    error = fail(post(server.url))

    assert (error.code, error.retryable) == ("tls-failed", False)
    assert f"no trusted TLS connection to {server.place}: self-signed certificate" == str(error)
    assert server.requests == []


def test_certificate_of_another_host(serve, server_context, client_context):
    """A trusted certificate for another name is refused."""
    server = serve(answering(answer()), server_context)
    opener = urllib.request.build_opener(DeadlineHTTPSHandler(client_context))

    error = fail(post(server.url.replace("127.0.0.1", "localhost")), sender=UrllibSender(opener))

    assert (error.code, error.retryable) == ("tls-failed", False)
    assert "localhost" in str(error)


@pytest.mark.parametrize("handler", ["HTTPSHandler", "DeadlineHTTPSHandler"])
def test_trusted_certificate(serve, server_context, client_context, handler):
    """A caller's opener may trust a certificate of the caller's own."""
    kinds = {
        "HTTPSHandler": urllib.request.HTTPSHandler(context=client_context),
        "DeadlineHTTPSHandler": DeadlineHTTPSHandler(client_context),
    }
    server = serve(answering(answer("202 Accepted")), server_context)

    response = UrllibSender(urllib.request.build_opener(kinds[handler])).send(
        post(server.url), 5.0
    )

    assert response.status == 202
    assert server.requests[0].endswith(BODY)


def test_plain_server_asked_for_tls(serve):
    """A server that speaks no TLS is a TLS failure: trying again cannot help."""

    def script(connection, server):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(65536)

    error = fail(get(serve(script).url.replace("http:", "https:")))

    assert (error.code, error.retryable) == ("tls-failed", False)


def test_connection_that_ends_in_the_handshake(serve):
    """A connection that ends within the handshake is unreachable, for a deploy may do that."""

    def script(connection, server):
        connection.recv(65536)

    error = fail(get(serve(script).url.replace("http:", "https:")))

    assert (error.code, error.retryable) == ("unreachable", True)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/x\r\nX-Evil: 1", {}),
        ("GET", "/x\ny", {}),
        ("GET", "/x y", {}),
        ("GET", "/x\x00", {}),
        ("GET", "/ä", {}),
        ("GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET", "/", {}),
        ("GET", "/", {"webhook-id": "a\r\nX-Evil: 1"}),
        ("GET", "/", {"webhook-id": "a\r\n X-Evil: 1"}),
        ("GET", "/", {"webhook-id": "a\nb"}),
        ("GET", "/", {"webhook-id": "a\x00b"}),
        ("GET", "/", {"webhook-id": "a\x85b"}),
        ("GET", "/", {"webhook-id\r\nX-Evil": "a"}),
        ("GET", "/", {"": "a"}),
    ],
)
def test_injection(serve, method, path, headers):
    """Control characters are refused before anything is sent, and are not repeated."""
    server = serve(answering(answer()))

    error = fail(Request(method, f"http://{server.place}{path}", headers))

    assert (error.code, error.retryable) == ("rejected", False)
    assert "nothing was sent" in str(error)
    assert "Evil" not in str(error)
    assert server.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///x",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http://[::1/",
        "http://127.0.0.1%0d%0aX:80/",
        "http://a..b/",
        f"http://{'a' * 64}/",
        "http://user:hunter2@127.0.0.1/",
        "http://127.0.0.1\\x/",
    ],
)
def test_malformed_url(url):
    """A url without a plain host and port is refused, and a password in it not repeated."""
    error = fail(Request("GET", url, {}))

    assert (error.code, error.retryable) == ("rejected", False)
    assert "hunter2" not in str(error)


def test_opener_without_handler():
    """An opener that opens nothing is told apart from a server that is away, with what to do."""
    error = fail(get("http://127.0.0.1:9/"), sender=UrllibSender(urllib.request.OpenerDirector()))

    assert (error.code, error.retryable) == ("rejected", False)
    assert "nothing was sent: the opener has no handler for http: add a" in str(error)


def test_many_threads_share_a_sender(serve):
    """Requests of many threads do not get each other's answers."""

    def echo(connection, server):
        body = server.read_request(connection).partition(b"\r\n\r\n")[2]
        connection.sendall(answer("200 OK", body))

    sender, url = UrllibSender(), serve(echo).url
    bodies: dict[int, bytes] = {}

    def send(number):
        bodies[number] = sender.send(post(url, str(number).encode()), 10.0).body

    threads = [threading.Thread(target=send, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {number: str(number).encode() for number in range(16)} == bodies


def test_plugin():
    """Configuration finds the sender by the name ``urllib``."""
    assert UrllibSender is load_plugin(SENDERS, "urllib")
