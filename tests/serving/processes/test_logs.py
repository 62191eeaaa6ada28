"""Logs: one JSON object a line, no data of accounts, no flood."""

from __future__ import annotations

import json
import logging
import sys

from serving.logs import FIELDS, JsonFormatter, Sparing


def record(message: str, created: float = 0.0, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("serving", logging.WARNING, __file__, 1, message, (), None)
    made.created = created
    setattr(made, FIELDS, fields)
    return made


def test_a_line_is_json_with_the_records_own_fields() -> None:
    line = json.loads(JsonFormatter().format(record("model swapped", alias="champion")))
    assert (line["message"], line["alias"], line["level"], line["logger"]) == (
        "model swapped",
        "champion",
        "warning",
        "serving",
    )
    assert line["time"].endswith("+00:00")


def test_of_an_exception_only_its_type_and_place_are_written() -> None:
    made = record("request failed")
    try:
        int("account A1 is private")
    except ValueError:
        made.exc_info = sys.exc_info()
    text = JsonFormatter().format(made)
    assert "private" not in text
    assert json.loads(text)["error"] == "ValueError"
    assert "test_logs.py" in json.loads(text)["where"][-1]


def test_the_same_message_is_written_once_a_second_and_counted() -> None:
    sparing = Sparing(1.0)
    passed = [sparing.filter(record("event store: away", created)) for created in (0.0, 0.2, 0.9)]
    assert passed == [True, False, False]
    assert sparing.filter(record("another", 0.3))
    late = record("event store: away", 1.1, pid=7)
    assert sparing.filter(late)
    assert getattr(late, FIELDS) == {"pid": 7, "held_back": 2}
    assert sparing.filter(record("event store: away", 2.2))


def test_errors_are_never_held_back() -> None:
    sparing = Sparing(1.0)
    for _ in range(3):
        failed = record("request failed")
        failed.levelno = logging.ERROR
        assert sparing.filter(failed)
