"""One store under servers of two releases: what this one adds hinders none of the one before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from recsys.contracts.events import EventQuery, FeedPosition, PostedLine, ProductUpdate
from recsys.errors import StoreError
from recsys.events.migrations import ADDITIONS, check_version, missing_additions
from recsys.events.schema import ADDED, FED, VERSION
from recsys.events.store import SqlStore, open_store
from tests.events import layout_4

pytestmark = pytest.mark.slow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    postgresql = request.param == "postgresql"
    found: str = request.getfixturevalue("postgresql_url") if postgresql else f"sqlite:///{tmp_path}/e.db"
    return found


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


@pytest.fixture
def before(url: str) -> Iterator[sa.Engine]:
    """Connections of a server of the release before, which has made the store and written to it."""
    engine = engine_of(url)
    with engine.begin() as connection:
        layout_4.make_store(connection)
        layout_4.write_everything(connection)
    yield engine
    engine.dispose()


def n_rows(store: SqlStore) -> dict[str, int]:
    return {table: store.size(table) for table in FED}


def test_a_store_of_the_release_before_is_brought_forward_and_taken_back(before: sa.Engine, url: str) -> None:
    store = open_store(url)
    check_version(store.engine)
    assert missing_additions(store.engine) == []
    assert n_rows(store) == dict.fromkeys(FED, 1)
    (decision,) = store.read(EventQuery("decisions", columns=("offers", "context"))).to_pylist()
    assert '"P1"' in decision["offers"]
    assert store.read(EventQuery("decision_offers", columns=("product_id",)))["product_id"].to_pylist() == ["P1"]
    store.append(
        [PostedLine(order_id="o2", line_id="1", product_id="P1", quantity=1.0, ordered_at=NOON, recorded_at=NOON)]
    )
    store.close()
    with before.begin() as connection:
        assert layout_4.is_accepted(connection)
        layout_4.write_everything(connection)
        orders = connection.exec_driver_sql("SELECT order_id FROM order_lines ORDER BY order_id").scalars().all()
    assert orders == ["o1", "o2"]


def test_a_new_store_is_one_that_the_release_before_accepts(url: str) -> None:
    store = open_store(url)
    with store.engine.begin() as connection:
        assert layout_4.is_accepted(connection)
        layout_4.write_everything(connection)
    assert n_rows(store) == dict.fromkeys(FED, 1)
    store.close()


def test_what_servers_of_the_release_before_write_is_read_as_changes(before: sa.Engine, url: str) -> None:
    store = open_store(url)
    store.append([ProductUpdate("P1", price=2.0, recorded_at=NOON)])
    begun = store.position()
    assert changed(store, begun) == []
    with before.begin() as connection:
        for table in ("decisions", "outcomes", "order_lines", "visitor_links"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
        layout_4.write_everything(connection)
    assert changed(store, begun) == sorted(FED)
    assert store.read(EventQuery("product_overrides", columns=("price", "stock"))).to_pylist() == [
        {"price": 2.0, "stock": 0.0}
    ]
    store.close()


def changed(store: SqlStore, since: FeedPosition) -> list[str]:
    return sorted(table for table in FED if store.read(EventQuery(table, changed_since=since)).num_rows)


@pytest.mark.parametrize("version", [5, 6, 7])
def test_a_version_that_no_release_had_is_put_right(url: str, version: int) -> None:
    store = open_store(url)
    store.append(
        [PostedLine(order_id="o1", line_id="1", product_id="P1", quantity=1.0, ordered_at=NOON, recorded_at=NOON)]
    )
    with store.engine.begin() as connection:
        ADDED.drop(connection)
        connection.execute(sa.insert(VERSION), [{"version": number} for number in range(5, version + 1)])
        assert not layout_4.is_accepted(connection)
    with pytest.raises(StoreError, match="lacks probe, presented_after_decision, change_feed"):
        check_version(store.engine)
    store.close()
    again = open_store(url)
    with again.engine.connect() as connection:
        assert layout_4.is_accepted(connection)
    begun = again.position()
    again.append(
        [PostedLine(order_id="o2", line_id="1", product_id="P1", quantity=1.0, ordered_at=NOON, recorded_at=NOON)]
    )
    assert changed(again, begun) == ["order_lines"]
    assert again.size("order_lines") == 2
    again.close()


def test_an_addition_of_a_later_release_is_left_alone(url: str) -> None:
    store = open_store(url)
    with store.engine.begin() as connection:
        connection.execute(sa.insert(ADDED).values(name="of_a_later_release"))
    store.close()
    again = open_store(url)
    with again.engine.connect() as connection:
        assert set(connection.execute(sa.select(ADDED.c.name)).scalars()) == {*ADDITIONS, "of_a_later_release"}
    again.close()


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_table_in_use_is_waited_for_in_turns_and_writers_go_on(before: sa.Engine, url: str) -> None:
    """A long reader, as an export is one: what waits for its table without end holds up whoever writes to it."""
    with ThreadPoolExecutor(2) as pool, before.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM decisions")
        starting = [pool.submit(open_store, url) for _ in range(2)]
        while not waits_for_table(before):
            assert not starting[0].done()
        with before.connect() as writer:
            writer.exec_driver_sql("SET statement_timeout = 5000")
            for number in range(50):
                writer.exec_driver_sql(layout_4.WRITES["decisions"].replace("'d1'", f"'n{number}'"))
                writer.commit()
        assert not any(opened.done() for opened in starting)
        reader.rollback()
        stores = [opened.result(60) for opened in starting]
    assert missing_additions(stores[0].engine) == []
    assert stores[0].size("decisions") == 51
    for store in stores:
        store.close()


def waits_for_table(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        asked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
        return bool(connection.exec_driver_sql(asked).scalar_one())


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_an_index_whose_making_was_interrupted_is_made_again(before: sa.Engine, url: str) -> None:
    with before.connect() as writer:
        writer.exec_driver_sql("ALTER TABLE decisions ADD COLUMN change BIGINT")
        writer.commit()
        writer.exec_driver_sql(layout_4.WRITES["decisions"].replace("'d1'", "'d2'"))  # which the index waits for
        index = "CREATE INDEX CONCURRENTLY ix_decisions_change ON decisions (change) WHERE presented"
        with before.execution_options(isolation_level="AUTOCOMMIT").connect() as maker:
            maker.exec_driver_sql("SET statement_timeout = 100")
            with pytest.raises(sa.exc.OperationalError, match="timeout"):
                maker.exec_driver_sql(index)
        writer.commit()
    store = open_store(url)
    with store.engine.connect() as connection:
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_decisions_change')"
        assert connection.exec_driver_sql(valid).scalar_one()
    store.close()
