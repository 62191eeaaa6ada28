"""What hostile and broken clients write on a connection, and what each of it may be answered with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from tests.serving.http.raw_http import Connection, Marked, chunked, page, request

CLOSED: Final = 0
"""Stands among the statuses: the server may close without this answer."""
OK: Final = frozenset({200})
REFUSED: Final = frozenset({400, 431, 501, 505, CLOSED})
"""A server that does not understand a request says so, or closes."""


class Trick(NamedTuple):
    """One connection's worth.

    Attributes:
        pieces: each is sent as a segment.
        asked: the requests that a strict reader sees, with the statuses that each may get, in order.
        then: whether the connection takes one more request: it must, it must not, or either.
    """

    pieces: Sequence[bytes]
    asked: Sequence[tuple[Marked, frozenset[int]]]
    then: Literal["open", "closed", "either"]


def judge(trick: Trick, address: tuple[str, int]) -> None:
    """Play a trick, then ask on the same connection and on a fresh one; everybody gets his own answers and no more."""
    last = page("Connection: close")
    connection = Connection(address)
    for piece in trick.pieces:
        if not connection.send(piece):
            break
    connection.send(last.sent)
    answers = connection.read_to_end()
    connection.close()
    asked = [*trick.asked]
    if trick.then != "closed":
        asked.append((last, OK if trick.then == "open" else OK | {CLOSED}))
    assert len(answers) <= len(asked), f"{len(answers)} answers to {len(asked)} requests"
    for answer, (marked, statuses) in zip(answers, asked, strict=False):
        assert answer.status in statuses, f"{answer.status} instead of {sorted(statuses)}"
        assert answer.request_id in ("", marked.request_id), f"{answer.request_id} answers {marked.request_id}"
        if answer.status == 200:
            assert answer.request_id == marked.request_id
            assert answer.asked_for() in (None, marked.limit)
    for marked, statuses in asked[len(answers) :]:
        assert CLOSED in statuses, f"{marked.request_id} got no answer"
    fresh = page("Connection: close")
    connection = Connection(address)
    connection.send(fresh.sent)
    (answer,) = connection.read_to_end()
    connection.close()
    assert (answer.status, answer.request_id, answer.asked_for()) == (200, fresh.request_id, fresh.limit)


def _one(marked: Marked, statuses: frozenset[int], then: Literal["open", "closed", "either"] = "either") -> Trick:
    return Trick([marked.sent], [(marked, statuses)], then)


def _fine(*marked: Marked) -> Trick:
    """Requests in one segment that must all be answered."""
    return Trick([b"".join(item.sent for item in marked)], [(item, OK) for item in marked], "open")


def _refused(*extra: str, **options: str | bytes | None) -> Trick:
    """A request that must not reach the application: after it nothing of the connection can be trusted."""
    return _one(request("POST /v1/offers HTTP/1.1", *extra, **options), REFUSED, "closed")  # type: ignore[arg-type]


def _hidden() -> Marked:
    """A whole request that stands where a body should; an answer to it is an answer too many."""
    return request("GET /v1/accounts/{id}/offers?limit={limit} HTTP/1.1", word="hidden")


def _with_hidden_body(line: str, *extra: str) -> Marked:
    return request(line, *extra, body=_hidden().sent)


def _upgrade_with_a_body(protocol: str) -> Trick:
    return _one(request("POST /v1/offers HTTP/1.1", "Connection: Upgrade", f"Upgrade: {protocol}"), OK)


def _upgrade_hiding_a_request(protocol: str) -> Trick:
    headers = ("Connection: Upgrade", f"Upgrade: {protocol}")
    return _one(_with_hidden_body("POST /v1/offers HTTP/1.1", *headers), frozenset({400, 415, 422, CLOSED}))


def _upgrade_without_a_body(protocol: str) -> Trick:
    return _one(page("Connection: Upgrade", f"Upgrade: {protocol}"), OK)


def _websocket() -> Trick:
    key = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    return _one(page("Connection: Upgrade", "Upgrade: websocket", *key), OK | REFUSED)


def _h2c() -> Trick:
    return _one(page("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), OK)


def _preface() -> Trick:
    marked = request(body=b"")
    return Trick([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)], [(marked, REFUSED)], "closed")


def _pipeline(n: int) -> Trick:
    return _fine(*(page() if i % 2 else request() for i in range(n)))


def _mixed_pipeline() -> Trick:
    """Good, wrong, unknown and good again: each gets its own answer."""
    wrong = request(body=b"{")
    unknown = request("GET /v1/nothing HTTP/1.1")
    batch = request(body=b'{"limit": "many"}')
    first, second = request(), page()
    asked = [(first, OK), (wrong, frozenset({400, 422})), (unknown, frozenset({404})), (second, OK)]
    asked.append((batch, frozenset({422})))
    return Trick([b"".join(marked.sent for marked, _ in asked)], asked, "open")


def _pipeline_that_breaks() -> Trick:
    first, second = request(), page()
    third = request("GET / HTTP/1.1", "Bad Header: x")
    return Trick([first.sent + third.sent + second.sent], [(first, OK | {CLOSED}), (third, REFUSED)], "closed")


def _byte_by_byte(marked: Marked) -> Trick:
    return Trick([marked.sent[i : i + 1] for i in range(len(marked.sent))], [(marked, OK)], "open")


def _cut_across() -> Trick:
    """Two requests, cut in the middle of each part, so that a segment holds the end of one and the head of another."""
    first, second = request(), request()
    sent = first.sent + second.sent
    cuts = [0, 3, len(first.head) - 2, len(first.head) + 1, len(first.sent) - 1, len(first.sent) + 5, len(sent)]
    return Trick([sent[a:b] for a, b in pairwise(cuts)], [(first, OK), (second, OK)], "open")


def _chunked(encoding: str = "chunked", sent: Callable[[bytes], bytes] = chunked, *extra: str) -> Marked:
    marked = request("POST /v1/offers HTTP/1.1", f"Transfer-Encoding: {encoding}", *extra, length=None)
    return marked._replace(body=sent(marked.body))


def _bad_chunks(sent: Callable[[bytes], bytes]) -> Trick:
    return _one(_chunked("chunked", sent), REFUSED, "closed")


def _length_and_chunks() -> Trick:
    """Either reading is one request; whatever follows can't be trusted, so the connection may close."""
    marked = _chunked("chunked", chunked, "Content-Length: 4")
    return _one(marked, OK | REFUSED)


def _length_and_chunks_hiding_a_request() -> Trick:
    """Chunked ends at once, so that what follows is a request of its own; by its length it is a body."""
    hidden = page()
    outer = request("POST /v1/offers HTTP/1.1", "Transfer-Encoding: chunked", length=None, body=b" ")
    end = b"0\r\n\r\n"
    head = outer.head.replace(b"\r\n\r\n", b"\r\nContent-Length: %d\r\n\r\n" % (len(end) + len(hidden.sent)))
    return Trick([head + end + hidden.sent], [(outer, REFUSED | {422}), (hidden, OK | {CLOSED})], "either")


def _two_lengths(more: int) -> Marked:
    marked = request()
    second = b"\r\nContent-Length: %d\r\n\r\n" % (len(marked.body) + more)
    return marked._replace(head=marked.head.replace(b"\r\n\r\n", second))


def _as_old(marked: Marked) -> Marked:
    return marked._replace(head=marked.head.replace(b"HTTP/1.1", b"HTTP/1.0"))


def _after(lead: bytes, marked: Marked, more: frozenset[int] = frozenset()) -> Trick:
    return Trick([lead + marked.sent], [(marked, OK | more)], "either" if more else "open")


def _bare_lines() -> Trick:
    marked = page()
    return Trick([marked.sent.replace(b"\r\n", b"\n")], [(marked, OK | REFUSED)], "either")


def _unread_body() -> Trick:
    """The application refuses without reading; no byte of the body may be taken for a request."""
    marked = _with_hidden_body("POST /v1/nothing HTTP/1.1")
    return _one(marked, frozenset({404}))


def _too_long_unread() -> Trick:
    hidden = _hidden().sent
    marked = request(body=hidden * (3 * 1_048_576 // len(hidden)))
    return _one(marked, frozenset({413, CLOSED}))


def _many_headers(n: int) -> Trick:
    return _one(page(*(f"x-{i}: {i}" for i in range(n))), OK | REFUSED)


def _old() -> Trick:
    return _one(request("GET /v1/accounts/{id}/offers?limit={limit} HTTP/1.0"), OK | {505}, "closed")


def _old_and_kept() -> Trick:
    return _one(request("GET /v1/accounts/{id}/offers?limit={limit} HTTP/1.0", "Connection: keep-alive"), OK | {505})


def _oldest() -> Trick:
    marked = page()
    return Trick([b"GET /v1/accounts/A1/offers\r\n\r\n"], [(marked, REFUSED)], "closed")


def _line(line: str, *statuses: int) -> Trick:
    return _one(request(line), frozenset(statuses))


def _account(path: str, *statuses: int) -> Trick:
    return _line(f"GET /v1/accounts/{path}/offers?limit={{limit}} HTTP/1.1", *statuses)


def _expects() -> Trick:
    marked = request("POST /v1/offers HTTP/1.1", "Expect: 100-continue")
    return Trick([marked.head, marked.body], [(marked, OK)], "open")


def _expects_and_waits_in_vain() -> Trick:
    """The refused body is announced, but the client goes on with another request."""
    marked = request("POST /v1/nothing HTTP/1.1", "Expect: 100-continue", body=b"x", length="2000000")
    return Trick([marked.head], [(marked, frozenset({404, 413}))], "closed")


_HEAD_END: Final = b"0\r\n\r\n"

TRICKS: Final[dict[str, Callable[[], Trick]]] = {
    "upgrade to websocket with a body": lambda: _upgrade_with_a_body("websocket"),
    "upgrade to h2c with a body": lambda: _upgrade_with_a_body("h2c"),
    "upgrade to something with a body": lambda: _upgrade_with_a_body("x"),
    "upgrade to websocket, its body is a request": lambda: _upgrade_hiding_a_request("websocket"),
    "upgrade to h2c, its body is a request": lambda: _upgrade_hiding_a_request("h2c"),
    "upgrade to something, its body is a request": lambda: _upgrade_hiding_a_request("x"),
    "upgrade to something": lambda: _upgrade_without_a_body("x"),
    "upgrade to a whole websocket": _websocket,
    "upgrade to h2c with its settings": _h2c,
    "upgrade without naming it": lambda: _one(request("POST /v1/offers HTTP/1.1", "Connection: Upgrade"), OK),
    "upgrade that Connection does not name": lambda: _fine(request("POST /v1/offers HTTP/1.1", "Upgrade: h2c")),
    "HTTP/2 by its preface": _preface,
    "pipeline of 2": lambda: _pipeline(2),
    "pipeline of 100": lambda: _pipeline(100),
    "pipeline of right and wrong": _mixed_pipeline,
    "pipeline that breaks": _pipeline_that_breaks,
    "POST byte by byte": lambda: _byte_by_byte(request()),
    "GET byte by byte": lambda: _byte_by_byte(page()),
    "chunks byte by byte": lambda: _byte_by_byte(_chunked()),
    "cut and glued segments": _cut_across,
    "empty lines before a request": lambda: _after(b"\r\n\r\n", page()),
    "a space before a request": lambda: _after(b" ", page(), REFUSED),
    "two equal lengths": lambda: _one(_two_lengths(0), OK | REFUSED),
    "two lengths": lambda: _one(_two_lengths(1), REFUSED, "closed"),
    "lengths in a list": lambda: _refused(length="5, 6"),
    "length below zero": lambda: _refused(length="-1"),
    "length with a plus": lambda: _refused(length="+5"),
    "length in hex": lambda: _refused(length="0x10"),
    "length with a space in it": lambda: _refused(length="1 0"),
    "length of another script": lambda: _refused(length="\xb2"),
    "length of twenty digits": lambda: _one(request(length="9" * 20), REFUSED | {413}, "closed"),
    "length of a thousand digits": lambda: _one(request(length="9" * 1_000), REFUSED | {413}, "closed"),
    "length of nine gigabytes": lambda: _one(request(length="9000000000"), frozenset({413}), "closed"),
    "name of the length with a space behind it": lambda: _refused("Content-Length : 5", length=None),
    "name of the length with a space before it": lambda: _refused(" Content-Length: 5", length=None),
    "length and chunks": _length_and_chunks,
    "length and chunks, one hides a request": _length_and_chunks_hiding_a_request,
    "chunks": lambda: _fine(_chunked()),
    "chunks with an extension": lambda: _one(
        _chunked("chunked", lambda body: b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(body), body)), OK | REFUSED
    ),
    "chunks with trailers": lambda: _one(
        _chunked("chunked", lambda body: chunked(body)[:-2] + b"Content-Length: 3\r\nx-request-id: t\r\n\r\n"),
        OK | REFUSED,
    ),
    "chunks in capitals": lambda: _one(_chunked("CHUNKED"), OK | REFUSED),
    "chunked twice": lambda: _one(_chunked("chunked, chunked"), OK | REFUSED),
    "encoding xchunked": lambda: _one(_chunked("xchunked"), REFUSED, "closed"),
    "encoding identity": lambda: _one(_chunked("identity"), REFUSED, "closed"),
    "encoding gzip, chunked": lambda: _one(_chunked("gzip, chunked"), OK | REFUSED | {422}),
    "encoding chunked, identity": lambda: _one(_chunked("chunked, identity"), REFUSED, "closed"),
    "encoding with a vertical tab": lambda: _one(_chunked("\x0bchunked"), REFUSED, "closed"),
    "encoding in HTTP/1.0": lambda: _one(_as_old(_chunked()), OK | REFUSED | {422}, "closed"),
    "chunk size that is no number": lambda: _bad_chunks(lambda body: b"zz\r\n" + body + b"\r\n" + _HEAD_END),
    "chunk size below zero": lambda: _bad_chunks(lambda body: b"-5\r\n" + body + b"\r\n" + _HEAD_END),
    "chunk size with 0x": lambda: _bad_chunks(lambda body: b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
    "chunk size too great": lambda: _bad_chunks(lambda body: b"f" * 17 + b"\r\n" + body + b"\r\n" + _HEAD_END),
    "chunk longer than its size": lambda: _bad_chunks(lambda body: b"3\r\n" + body + b"\r\n" + _HEAD_END),
    "chunk without its line end": lambda: _bad_chunks(lambda body: b"%x\r\n%b0\r\n\r\n" % (len(body), body)),
    "folded header": lambda: _one(page("x-a: 1\r\n folded: 2"), OK | REFUSED),
    "folded encoding": lambda: _refused("Transfer-Encoding:\r\n chunked", length=None),
    "bare line feeds": _bare_lines,
    "carriage return in a header": lambda: _one(page("x-a: 1\rContent-Length: 5"), REFUSED, "closed"),
    "NUL in a header": lambda: _one(page("x-a: 1\0"), REFUSED, "closed"),
    "invalid UTF-8 in a header": lambda: _one(page("x-a: \xff\xfe"), OK | REFUSED),
    "header without a colon": lambda: _one(page("nonsense"), REFUSED, "closed"),
    "header without a name": lambda: _one(page(": x"), REFUSED, "closed"),
    "length on GET, its body is a request": lambda: _one(
        _with_hidden_body("GET /v1/accounts/{id}/offers?limit={limit} HTTP/1.1"), OK | REFUSED
    ),
    "body behind GET without a length": lambda: Trick(
        [(marked := page()).sent + b'{"account_id": "x"}'], [(marked, OK), (marked, REFUSED)], "closed"
    ),
    "unread body": _unread_body,
    "unread body of three megabytes": _too_long_unread,
    "no Host": lambda: _one(request("GET /livez HTTP/1.1", host=None), REFUSED),
    "two Hosts": lambda: _one(page("Host: elsewhere.example"), REFUSED),
    "foreign Host": lambda: _one(request("GET /livez HTTP/1.1", host="elsewhere.example"), frozenset({421})),
    "two keys": lambda: _one(page("Authorization: Bearer a", "Authorization: Bearer b"), frozenset({400})),
    "a key and another one": lambda: _one(page("Authorization: Bearer a", "X-API-Key: b"), frozenset({400})),
    "absolute target": lambda: _line(
        "GET http://localhost/v1/accounts/{id}/offers?limit={limit} HTTP/1.1", 200, 400, 404
    ),
    "absolute target of another host": lambda: _line("GET http://elsewhere.example/livez HTTP/1.1", 200, 400, 404, 421),
    "double slash": lambda: _line("GET //v1/accounts/{id}/offers HTTP/1.1", 404, 400),
    "escaped slash": lambda: _line("GET /v1/accounts%2f{id}/offers?limit={limit} HTTP/1.1", 404, 400, 200),
    "dots in the path": lambda: _account("{id}/../{id}", 200, 400, 404),
    "escaped dots in the path": lambda: _line("GET /v1/%2e%2e/v1/accounts/{id}/offers HTTP/1.1", 404, 400),
    "invalid UTF-8 in the path": lambda: _account("%ff%fe", 200, 400, 404, 422),
    "raw bytes in the path": lambda: _account("\xff\xfe", 200, 400, 404, 422, CLOSED),
    "NUL in the path": lambda: _account("a\0b", 400, CLOSED),
    "escaped NUL in the path": lambda: _account("a%00b", 200, 400, 404, 422),
    "space in the path": lambda: _account("a b", 400, CLOSED),
    "fragment in the path": lambda: _line("GET /v1/nothing#x HTTP/1.1", 400, 404, CLOSED),
    "HTTP/1.0": _old,
    "HTTP/1.0 that stays": _old_and_kept,
    "HTTP/0.9": _oldest,
    "HTTP/2.0 in the request line": lambda: _one(request("GET /livez HTTP/2.0"), REFUSED, "closed"),
    "HTTP/1.2 in the request line": lambda: _one(request("GET /v1/nothing HTTP/1.2"), REFUSED | {404}),
    "method in small letters": lambda: _line("get /livez HTTP/1.1", 400, 405, 501, CLOSED),
    "unknown method": lambda: _line("BREW /livez HTTP/1.1", 400, 405, 501, CLOSED),
    "CONNECT": lambda: _one(request("CONNECT elsewhere.example:443 HTTP/1.1"), frozenset({400, 404, 405, CLOSED})),
    "TRACE": lambda: _line("TRACE /v1/nothing HTTP/1.1", 404, 405, 400, 501),
    "OPTIONS *": lambda: _line("OPTIONS * HTTP/1.1", 200, 400, 404, 405),
    "Expect: 100-continue": _expects,
    "Expect: 100-continue, another request instead of the body": _expects_and_waits_in_vain,
    "unknown expectation": lambda: _one(request("POST /v1/offers HTTP/1.1", "Expect: miracles"), frozenset({200, 417})),
    "a hundred headers more": lambda: _many_headers(100),
    "a thousand headers": lambda: _many_headers(1_000),
    "header of a megabyte": lambda: _one(page("x-a: " + "x" * 1_048_576), REFUSED, "closed"),
    "target of a megabyte": lambda: _one(request("GET /" + "x" * 1_048_576 + " HTTP/1.1"), REFUSED | {414}, "closed"),
    "keep-alive timeout asked for": lambda: _fine(page("Keep-Alive: timeout=100000")),
    "close and a request behind it": lambda: Trick(
        [(first := page("Connection: close")).sent + page().sent], [(first, OK)], "closed"
    ),
}
