"""The file of business rules, read again when it has changed; a broken one leaves the last good rules in force."""

from __future__ import annotations

import logging
from pathlib import Path

from recsys.errors import ConfigError
from recsys.offer_catalogue.business_rules import BusinessRules, read_rules
from serving import logs

_log = logging.getLogger("serving")


class RulesFile:
    """The rules of one file.

    Attributes:
        is_refused: whether the file as it stands is broken, so that older rules are in force.

    Raises:
        ConfigError: the file is broken from the beginning.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look_at()
        self._rules = read_rules(path)
        self.is_refused = False

    def look(self) -> BusinessRules:
        """Return the rules, read again where the file has changed; a broken file is told and left alone."""
        stamp = self._look_at()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = read_rules(self._path)
                self.is_refused = False
                _log.info("business rules read", extra={logs.FIELDS: {"version": self._rules.version}})
            except ConfigError as error:
                self.is_refused = True
                _log.error("business rules refused, the last good ones go on: %s", error)
        return self._rules

    def _look_at(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
