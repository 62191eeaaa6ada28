"""SQLite's files deleted, replaced, cut off or written over under an open store: noticed, and what was kept is kept."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.contracts.events import EventQuery, PostedLine
from recsys.errors import StoreError
from recsys.events.store import SqlStore, open_store

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def line(order_id: str) -> PostedLine:
    return PostedLine(order_id=order_id, line_id="1", product_id="P1", quantity=1.0, ordered_at=NOW, recorded_at=NOW)


def orders(store: SqlStore) -> list[str]:
    found: list[str] = store.read(EventQuery("order_lines", columns=("order_id",)))["order_id"].to_pylist()
    return found


def keeps(store: SqlStore, order_id: str) -> bool:
    try:
        store.append([line(order_id)])
    except StoreError:
        return False
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store" / "e.db"


@pytest.fixture
def store(file: Path) -> Iterator[SqlStore]:
    made = open_store(f"sqlite:///{file}")
    made.append([line("o1")])
    assert orders(made) == ["o1"]
    yield made
    made.close()


def delete(file: Path) -> None:
    file.unlink()


def delete_all_of_it(file: Path) -> None:
    for one in file.parent.iterdir():
        one.unlink()


def delete_the_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


def put_an_empty_file(file: Path) -> None:
    (file.parent / "new").touch()
    (file.parent / "new").replace(file)


def put_noise(file: Path) -> None:
    (file.parent / "new").write_bytes(os.urandom(50_000))
    (file.parent / "new").replace(file)


def copy_noise_over_it(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(os.urandom(file.stat().st_size))


def cut_it_off(file: Path) -> None:
    os.truncate(file, 0)


def cut_half_of_it_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


LOSSES = (
    delete,
    delete_all_of_it,
    delete_the_folder,
    put_an_empty_file,
    put_noise,
    copy_noise_over_it,
    cut_it_off,
    cut_half_of_it_off,
)


@pytest.mark.parametrize("lose", LOSSES)
def test_nothing_is_kept_until_the_file_is_back_and_then_all_of_it_is_there(
    store: SqlStore, file: Path, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    store.append([line(f"{number}") for number in range(1_000)])  # some hundred pages
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    shutil.copy(file, tmp_path / "copy.db")
    lose(file)
    assert not any(keeps(store, f"lost{number}") for number in range(3))
    with pytest.raises(StoreError):
        store.probe()
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{file}", create=False)
    file.parent.mkdir(exist_ok=True)
    (tmp_path / "copy.db").replace(file)
    tries = [keeps(store, f"later{number}") for number in range(3)]
    assert tries[-1]
    later = {f"later{number}" for number, kept in enumerate(tries) if kept}
    assert set(orders(store)) == {"o1", *map(str, range(1_000)), *later}
    assert as_another_process_sees_it(file) == len(orders(store))


def as_another_process_sees_it(file: Path) -> int:
    code = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('select count(*) from order_lines'))"
    found = subprocess.run([sys.executable, "-c", code, str(file)], check=True, capture_output=True, text=True).stdout
    return int(found.strip("(,)\n "))


@pytest.mark.parametrize("ending", ["-wal", "-shm"])
def test_a_journal_that_is_deleted_takes_nothing_with_it(store: SqlStore, file: Path, ending: str) -> None:
    store.append([line("o2")])
    file.with_name(file.name + ending).unlink()
    assert not keeps(store, "o3")
    assert keeps(store, "o4")
    assert {"o1", "o2", "o4"} <= set(orders(store))
    assert as_another_process_sees_it(file) == len(orders(store))


def test_a_reader_that_notices_first_saves_what_the_deleted_journal_held(store: SqlStore, file: Path) -> None:
    store.append([line("o2")])
    file.with_name("e.db-wal").unlink()
    assert orders(store) == ["o1", "o2"]
    assert keeps(store, "o3") or keeps(store, "o3")
    assert as_another_process_sees_it(file) == 3


def test_a_file_that_is_moved_away_and_back_has_lost_nothing(store: SqlStore, file: Path, tmp_path: Path) -> None:
    store.append([line("o2")])
    file.replace(tmp_path / "elsewhere.db")
    assert not keeps(store, "o3")
    (tmp_path / "elsewhere.db").replace(file)
    assert keeps(store, "o4")
    assert {"o1", "o2", "o4"} <= set(orders(store))


def test_another_store_in_its_place_is_noticed_once_and_its_pages_are_not_mixed(
    store: SqlStore, file: Path, tmp_path: Path
) -> None:
    other = open_store(f"sqlite:///{tmp_path}/other.db")
    other.append([line("a"), line("b")])
    other.close()
    with sqlite3.connect(tmp_path / "other.db") as opened:
        opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    opened.close()
    store.append([line(f"{number}") for number in range(100)])
    (tmp_path / "other.db").replace(file)
    assert not keeps(store, "o3")
    assert keeps(store, "o4")
    assert orders(store) == ["a", "b", "o4"]


def test_a_file_that_its_owner_has_made_shorter_is_used_after_a_look(store: SqlStore, file: Path) -> None:
    store.append([line(f"x{number}") for number in range(3_000)])
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("DELETE FROM order_lines WHERE order_id LIKE 'x%'")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        keeps(store, "before")
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    assert any(keeps(store, f"after{number}") for number in range(2))
    assert {"o1", "before"} <= set(orders(store))


def test_on_a_small_disk_what_is_freed_is_used_and_nothing_that_was_kept_is_lost(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    store = open_store(f"sqlite:///{disk}/e.db")
    try:
        (disk / "ballast").write_bytes(bytes(700_000))
        kept: list[str] = []
        while keeps(store, f"o{len(kept)}"):
            kept.append(f"o{len(kept)}")
        for _ in range(200):  # the journal makes room for some more, until the file itself can't grow
            if keeps(store, f"o{len(kept)}"):
                kept.append(f"o{len(kept)}")
        (disk / "ballast").unlink()
        for _ in range(20):
            assert keeps(store, f"o{len(kept)}")
            kept.append(f"o{len(kept)}")
        store.probe()
        assert set(kept) <= set(orders(store))
    finally:
        store.close()
        subprocess.run(["umount", str(disk)], check=True)


def test_a_store_that_was_there_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open"):
        open_store(f"sqlite:///{tmp_path}/none.db", create=False)
    assert list(tmp_path.iterdir()) == []
