"""The end of a connection whose client may still be sending."""

import socket
import threading
import time
from contextlib import suppress
from io import BytesIO

import pytest

from dispatcher_wsgi_receiver.lingering import LastAnswer, linger
from dispatcher_wsgi_receiver.watchdog import Watchdog

NEVER = 1000.0


@pytest.fixture
def pair():
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=20)
        connection, _ = server.accept()
        connection.settimeout(20)
    with client, connection:
        yield connection, client


@pytest.fixture
def calls(make_client, queue):
    """Calls a receiver as a server does that keeps its connections; the body of the answer."""
    app = make_client(queue, body_timeout=0.1).app

    def call(connection, **parts):
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/dispatch", "QUERY_STRING": ""}
        return app({**environ, "gunicorn.socket": connection, **parts}, lambda *_: None)

    return call


def send_until_reset(client):
    """Send without a pause until the other side does not take it."""
    with suppress(ConnectionError):
        while True:
            client.sendall(bytes(65536))


def test_a_client_that_ends_is_not_waited_for(pair):
    """All is read that comes before the end of the client, and no longer."""
    connection, client = pair
    client.sendall(b"rest of a body")
    client.shutdown(socket.SHUT_WR)
    linger(connection, Watchdog(), NEVER)
    assert client.recv(1) == b""
    assert connection.recv(1) == b""


def test_a_client_that_stalls_is_waited_for_a_while(pair):
    """A client that neither sends nor ends is left at the deadline, with its answer."""
    connection, client = pair
    connection.sendall(b"answer")
    linger(connection, Watchdog(), 0.05)
    assert client.makefile("rb").read() == b"answer"


def test_a_client_that_does_not_stop_is_cut_off(pair):
    """A client that sends all the time is read from until the deadline, and no longer."""
    connection, client = pair
    sender = threading.Thread(target=send_until_reset, args=(client,))
    sender.start()
    linger(connection, Watchdog(), 0.05)
    connection.close()
    sender.join(20)
    assert not sender.is_alive()


def test_what_comes_after_the_last_answer_cannot_be_read(pair):
    """Once both sides are shut, late bytes reset the connection instead of being kept for it."""
    connection, client = pair
    linger(connection, Watchdog(), 0.05)
    deadline = time.monotonic() + 20
    with pytest.raises(ConnectionError):
        while time.monotonic() < deadline:
            client.sendall(b"GET /admin HTTP/1.1\r\n\r\n")
    with suppress(ConnectionError):
        assert connection.recv(1) == b""


def test_the_last_answer_ends_its_connection(pair):
    """The server is told of a broken connection, so that it serves nobody else on it."""
    connection, client = pair
    answer = LastAnswer([b"answer"], connection, Watchdog(), 0.05)
    for part in answer:
        connection.sendall(part)
    with pytest.raises(ConnectionResetError):
        answer.close()
    assert client.makefile("rb").read() == b"answer"


@pytest.mark.parametrize(
    "parts",
    [
        {"PATH_INFO": "/nothing", "CONTENT_LENGTH": "5"},
        {"CONTENT_LENGTH": "5"},
        {"HTTP_TRANSFER_ENCODING": "chunked"},
        {"PATH_INFO": "/health", "REQUEST_METHOD": "GET", "CONTENT_LENGTH": "5"},
    ],
)
def test_a_refusal_of_an_unread_body_is_the_last_answer(calls, pair, parts):
    """Where a body was announced and not read, the connection ends with the answer."""
    assert isinstance(calls(pair[0], **parts), LastAnswer)


def test_a_body_that_comes_too_late_gets_the_last_answer(calls, pair, client):
    """Also where it is whole in the moment of its deadline: the connection is of no more use."""
    connection, _ = pair

    class Stream:
        def read(self, size):
            """The whole body, once the read side is shut."""
            assert connection.recv(1) == b""
            return bytes(size)

    signed = client.headers("job-1", bytes(5))
    parts = {"CONTENT_LENGTH": "5", "CONTENT_TYPE": "application/json", "wsgi.input": Stream()}
    answer = calls(connection, **signed, **parts)
    assert isinstance(answer, LastAnswer)
    assert b'"timeout"' in answer[0]


def test_an_error_of_ours_may_leave_a_body_unread(calls, pair, client, caplog):
    """A failure while a body is read ends the connection as well."""

    class Stream:
        def read(self, size):
            """Fail."""
            raise RuntimeError("broken")

    signed = client.headers("job-1", bytes(5))
    parts = {"CONTENT_LENGTH": "5", "CONTENT_TYPE": "application/json", "wsgi.input": Stream()}
    assert isinstance(calls(pair[0], **signed, **parts), LastAnswer)
    assert "broken" in caplog.text


def test_an_error_of_ours_after_the_body_is_not_the_last_answer(make_client, pair, client):
    """A failure once the body was read leaves the connection to other requests."""
    app = make_client(queue=None).app
    body = b'{"type":"dispatch","job":"send-mail","payload":{"to":"ann"}}'
    parts = {"REQUEST_METHOD": "POST", "PATH_INFO": "/dispatch", "wsgi.input": BytesIO(body)}
    parts |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
    parts |= {"gunicorn.socket": pair[0], **client.headers("job-1", body)}
    answer = app(parts, lambda *_: None)
    assert b'"internal"' in answer[0]
    assert not isinstance(answer, LastAnswer)


@pytest.mark.parametrize(
    "parts",
    [
        {"PATH_INFO": "/health", "REQUEST_METHOD": "GET"},
        {"PATH_INFO": "/nothing", "REQUEST_METHOD": "GET"},
        {"CONTENT_LENGTH": "0"},
    ],
)
def test_an_answer_to_no_body_is_not_the_last(calls, pair, parts):
    """Where there is no body to be left unread, the connection serves other requests."""
    assert not isinstance(calls(pair[0], **parts), LastAnswer)
