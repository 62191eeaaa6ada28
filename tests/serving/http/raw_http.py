"""HTTP/1.1 by hand: bytes go out as they are written, and whatever comes back is counted."""

from __future__ import annotations

import itertools
import json
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

_numbers = itertools.count(1)
_CHUNK = re.compile(rb"[0-9a-fA-F]+")


class Answer(NamedTuple):
    """One answer as it came.

    Attributes:
        status: of an answer; interim ones (100) are passed over.
        request_id: what it names as its request; "" where the server answered before the application.
        headers: names in lower case.
        body: without chunks.
    """

    status: int
    request_id: str
    headers: dict[str, str]
    body: bytes

    def asked_for(self) -> int | None:
        """How many offers the answer was asked for; None where it is no answer with offers."""
        if self.headers.get("content-type") != "application/json":
            return None
        asked: int | None = json.loads(self.body).get("requested")
        return asked


class Marked(NamedTuple):
    """A request that no other one can be taken for.

    Attributes:
        request_id: comes back in `x-request-id`; its account is called so too.
        limit: how many offers it asks for; they differ from one request to the next.
        head: request line and headers, with the empty line.
        body: of the request.
    """

    request_id: str
    limit: int
    head: bytes
    body: bytes

    @property
    def sent(self) -> bytes:
        """Head and body."""
        return self.head + self.body


def request(
    line: str = "POST /v1/offers HTTP/1.1",
    *extra: str,
    body: bytes | None = None,
    length: str | None = "",
    host: str | None = "localhost",
    word: str = "r",
) -> Marked:
    """Return a request with an id of its own.

    Args:
        line: the request line; `{id}` and `{limit}` are put in.
        extra: header lines, behind the usual ones.
        body: None: a question about the account for POST, nothing for the rest.
        length: what `Content-Length` says; "": the truth, None: there is none.
        host: None: there is none.
        word: how the id begins.
    """
    number = next(_numbers)
    request_id, limit = f"{word}-{number}", number % 7 + 1
    line = line.replace("{id}", request_id).replace("{limit}", str(limit))
    if body is None:
        body = json.dumps({"account_id": request_id, "limit": limit}).encode() if line.startswith("POST") else b""
    lines = [line, f"x-request-id: {request_id}"]
    if host is not None:
        lines.append(f"Host: {host}")
    if body:
        lines.append("Content-Type: application/json")
    if length is not None and (body or length):
        lines.append(f"Content-Length: {length or len(body)}")
    head = "\r\n".join([*lines, *extra]).encode("latin-1") + b"\r\n\r\n"
    return Marked(request_id, limit, head, body)


def page(*extra: str) -> Marked:
    """Return a question by GET."""
    return request("GET /v1/accounts/{id}/offers?limit={limit} HTTP/1.1", *extra)


def chunked(body: bytes, size: int = 7) -> bytes:
    """Return `body` in chunks."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Connection:
    """A TCP connection that keeps all it was sent."""

    def __init__(self, address: tuple[str, int], timeout: float = 20) -> None:
        self.socket = socket.create_connection(address, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.closed = False

    def send(self, data: bytes) -> bool:
        """Send everything; False where the server has closed."""
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            return False
        return True

    def read(self) -> bool:
        """Take what comes next; False at the end.

        Raises:
            TimeoutError: the server neither sends nor closes.
        """
        try:
            piece = self.socket.recv(65_536)
        except ConnectionResetError:
            piece = b""
        self.received += piece
        self.closed = not piece
        return bool(piece)

    def read_answers(self, n: int) -> list[Answer]:
        """Read until there are `n` answers or the server closes; what is sent beyond them is kept."""
        while len(found := list(self.answers())) < n and self.read():
            pass
        return found

    def read_to_end(self) -> list[Answer]:
        """Read until the server closes.

        Raises:
            AssertionError: the bytes are not a sequence of answers.
        """
        while self.read():
            pass
        found = list(self.answers())
        assert not self._rest, f"beyond {len(found)} answers: {self._rest[:200]!r}"
        return found

    def answers(self) -> Iterator[Answer]:
        """Split what has come into answers; an incomplete one waits in `_rest`."""
        self._rest = self.received
        while b"\r\n\r\n" in self._rest:
            head, _, rest = self._rest.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            assert re.fullmatch(r"HTTP/1\.[01] [1-5]\d\d( .*)?", first), f"no status line: {first[:100]!r}"
            status = int(first.split()[1])
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if 100 <= status < 200:
                self._rest = rest
                continue
            body, end = _body(headers, rest, status, ended=self.closed)
            if end is None:
                return
            self._rest = rest[end:]
            yield Answer(status, headers.get("x-request-id", ""), headers, body)

    def reset(self) -> None:
        """End with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """End with FIN."""
        self.socket.close()


def _body(headers: dict[str, str], rest: bytes, status: int, *, ended: bool) -> tuple[bytes, int | None]:
    """Return a body and where it ends; None: it is not all there."""
    if headers.get("transfer-encoding") == "chunked":
        return _unchunked(rest)
    if "content-length" not in headers and headers.get("connection") == "close":
        return rest, len(rest) if ended else None
    if status in (204, 304):
        return b"", 0
    length = int(headers.get("content-length", 0))
    return rest[:length], length if len(rest) >= length else None


def _unchunked(rest: bytes) -> tuple[bytes, int | None]:
    body, at = b"", 0
    while (end := rest.find(b"\r\n", at)) >= 0:
        assert _CHUNK.fullmatch(rest[at:end])
        size = int(rest[at:end], 16)
        if len(rest) < end + 2 + size + 2:
            break
        body += rest[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
        if not size:
            return body, at
    return b"", None


@contextmanager
def connected(address: tuple[str, int], timeout: float = 20) -> Iterator[Connection]:
    """A connection that ends with the block."""
    connection = Connection(address, timeout)
    try:
        yield connection
    finally:
        connection.close()


def send_pieces(connection: Connection, pieces: Iterable[bytes]) -> None:
    """Send each piece as a segment of its own, as long as the server takes them."""
    for piece in pieces:
        if not connection.send(piece):
            return
