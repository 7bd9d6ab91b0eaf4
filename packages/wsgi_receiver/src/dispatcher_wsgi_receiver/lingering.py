"""The end of a connection whose client may still be sending."""

import errno
import socket
from contextlib import suppress

from .watchdog import Watchdog

__all__ = ["LastAnswer", "linger"]


def linger(connection: socket.socket, watchdog: Watchdog, seconds: float) -> None:
    """Tell a client that no more will come, and read away what it still sends.

    RFC 9112, section 9.6: to close a connection while its client still sends resets it, and the
    client may lose the answer.

    Args:
        connection: the one that is about to be closed.
        watchdog: ends the reading. From then on whatever comes resets the connection, as
            both of its sides are shut.
        seconds: how long the client may go on.

    Raises:
        RuntimeError: the thread of the watchdog cannot be started.
    """
    # The methods of an SSLSocket would go on in plain text, or wait for the rest of a record.
    with suppress(OSError), watchdog.limit(connection, seconds) as deadline:
        socket.socket.shutdown(connection, socket.SHUT_WR)
        while not deadline.passed and socket.socket.recv(connection, 65536):
            pass


class LastAnswer(list[bytes]):
    """The body of an answer after which its connection serves no other request.

    For a request that was not read whole: nobody knows where the next one would begin. A server
    that counts what it has read may be wrong, since a read that the watchdog ends looks to it
    like the end of the client.

    Args:
        body: what is sent.
        connection: the one that it is sent over.
        watchdog: ends the reading of what the client still sends.
        seconds: how long it may.
    """

    def __init__(
        self, body: list[bytes], connection: socket.socket, watchdog: Watchdog, seconds: float
    ) -> None:
        super().__init__(body)
        self._connection = connection
        self._watchdog = watchdog
        self._seconds = seconds

    def close(self) -> None:
        """End the connection, now that the answer is sent (PEP 3333 has servers call this).

        Raises:
            ConnectionResetError: always. An application may send no ``Connection: close``, but
                a server whose connection breaks drops it, and says nothing.
        """
        linger(self._connection, self._watchdog, self._seconds)
        raise ConnectionResetError(errno.ECONNRESET, "the request was refused unread")
