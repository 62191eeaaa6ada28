"""What a worker knows of the keys is never older than its settings say, whatever becomes of their file."""

from __future__ import annotations

import logging
import os
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from serving import logs
from serving.http.keyring import Keyring, KeysUnreadableError
from serving.http.keys import KeyEntry, KeyFile, change_keys, new_key, read_keys, without_key
from serving.settings import Settings
from tests.support.key_files import with_key, write_keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made(name: str) -> tuple[bytes, KeyEntry]:
    key, entry = new_key(name, now=NOW, role="storefront", owner=f"{name}@firm.example")
    return key.encode(), entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_as_the_server_is_set_nothing_is_older_than_a_second() -> None:
    settings = Settings()
    assert settings.keys_refresh_seconds == 0.5
    assert settings.keys_max_age_seconds == 1.0


def test_a_change_is_seen_at_the_next_look_though_time_size_and_inode_are_the_same(path: Path) -> None:
    (key, entry), (other_key, other) = made("shop"), made("push")
    write_keys(path, KeyFile(keys=(entry,)))
    keyring = Keyring(path, 0.5)
    assert keyring.entry(key, 10.0) == entry
    before = path.stat()
    write_keys(path, KeyFile(keys=(other,)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    same = [(status.st_mtime_ns, status.st_size, status.st_ino) for status in (before, after)]
    assert same[0] == same[1]
    assert keyring.entry(key, 10.49) == entry
    assert keyring.entry(key, 10.5) is None
    assert keyring.entry(other_key, 10.5) == other


def test_a_file_that_is_moved_into_the_place_is_seen_as_well(path: Path) -> None:
    key, entry = made("shop")
    write_keys(path, KeyFile(keys=(entry,)))
    keyring = Keyring(path, 0.5)
    assert keyring.entry(key, 0.0) == entry
    beside = path.with_name("beside.json")
    write_keys(beside, KeyFile())
    beside.replace(path)
    assert keyring.entry(key, 0.5) is None


@pytest.mark.parametrize("broken", [None, b"", b"{", b'#"keys": []}', b'{"keys": 1}'])
def test_while_the_file_is_broken_the_keys_hold_for_a_second_and_no_longer(
    path: Path, broken: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    key, entry = made("shop")
    write_keys(path, KeyFile(keys=(entry,)))
    good = path.read_bytes()
    keyring = Keyring(path, 0.5, 1.0)
    assert keyring.entry(key, 100.0) == entry
    with caplog.at_level(logging.INFO, "serving"):
        if broken is None:
            path.unlink()
        else:
            path.write_bytes(broken)
        assert keyring.entry(key, 100.5) == entry
        assert keyring.entry(key, 101.0) == entry
        for now in (101.01, 102.0, 500.0):
            with pytest.raises(KeysUnreadableError, match="can't be read"):
                keyring.entry(key, now)
            assert not keyring.holds(now)
        path.write_bytes(good)
        assert keyring.entry(key, 500.5) == entry
    told = [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records]
    assert told == [
        ("WARNING", "the keys stay as they were for a moment"),
        ("ERROR", "no key opens anything"),
        ("INFO", "the file of keys can be read again"),
    ]


def test_after_a_pause_without_requests_a_broken_file_opens_nothing_at_once(path: Path) -> None:
    key, entry = made("shop")
    write_keys(path, KeyFile(keys=(entry,)))
    keyring = Keyring(path, 0.5)
    assert keyring.entry(key, 0.0) == entry
    path.unlink()
    with pytest.raises(KeysUnreadableError):
        keyring.entry(key, 3_600.0)


def test_the_log_says_which_keys_came_and_went_and_whose_they_were(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (key, entry), (other_key, other) = made("shop"), made("push")
    write_keys(path, KeyFile(keys=(entry,)))
    keyring = Keyring(path, 0.0)
    with caplog.at_level(logging.INFO, "serving"):
        write_keys(path, KeyFile(keys=(other,)))
        assert keyring.entry(key, 0.0) is None
        assert keyring.entry(other_key, 0.0) == other
    (record,) = caplog.records
    assert getattr(record, logs.FIELDS) == {
        "keys": 1,
        "made": [{"key_id": other.key_id, "name": "push", "owner": "push@firm.example"}],
        "revoked": [{"key_id": entry.key_id, "name": "shop", "owner": "shop@firm.example"}],
    }
    assert key.decode() not in logs.JsonFormatter().format(record)


def test_while_others_change_the_file_without_pause_no_change_and_no_key_is_lost(path: Path) -> None:
    """Four writers make fifteen keys each and revoke every other one; a reader looks all the while."""
    key, entry = made("kept")
    write_keys(path, KeyFile(keys=(entry,)))
    keyring = Keyring(path, 0.0, max_age_seconds=30.0)
    assert keyring.entry(key, 0.0) == entry
    expected = {entry.key_id}

    def write(name: str) -> None:
        for number in range(15):
            _, mine = made(name)
            change_keys(path, partial(with_key, entry=mine))
            if number % 2:
                change_keys(path, partial(without_key, key_id=mine.key_id))
            else:
                expected.add(mine.key_id)

    writers = [threading.Thread(target=write, args=(f"writer-{number}",)) for number in range(4)]
    for writer in writers:
        writer.start()
    looks = 0
    while any(writer.is_alive() for writer in writers):
        assert keyring.entry(key, looks / 1_000) == entry
        looks += 1
    assert looks > 10
    assert {found.key_id for found in read_keys(path).keys} == expected
    assert len(expected) == 1 + 4 * 8
