"""Logs as one JSON object a line, without the data of any account."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, Final

FIELDS: Final = "fields"
"""Key of `extra` under which a record brings fields of its own."""


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message and the record's own fields.

    Of an exception only its type and where it came from are written: its text may quote what a request held.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["where"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        return json.dumps(line, ensure_ascii=False, default=str)


class Sparing(logging.Filter):
    """Lets the same warning pass once a second, and says with the next one how many it held back.

    A database that is away would else be reported by every request, faster than anybody reads. Errors all pass.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._latest: dict[tuple[str, str], tuple[float, int]] = {}  # by logger and text: a handful

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        if record.levelno >= logging.ERROR:
            return True
        key = (record.name, str(record.msg))
        latest, held_back = self._latest.get(key, (float("-inf"), 0))
        if record.created - latest < self._seconds:
            self._latest[key] = latest, held_back + 1
            return False
        if held_back:
            setattr(record, FIELDS, {**getattr(record, FIELDS, {}), "held_back": held_back})
        self._latest[key] = record.created, 0
        return True


def configure() -> None:
    """Send the server's records to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Sparing())
    logger = logging.getLogger("serving")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def granian_config() -> dict[str, Any]:
    """Return what sends the HTTP server's own records the same way, as `logging.config.dictConfig` takes it."""
    return {
        "formatters": {"json": {"()": JsonFormatter}},
        "filters": {"sparing": {"()": Sparing}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "filters": ["sparing"]}},
        "loggers": {"_granian": {"handlers": ["stderr"], "propagate": False}},
    }
