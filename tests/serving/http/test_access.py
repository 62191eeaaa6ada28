"""Keys, scopes and rates: who may call what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from recsys.errors import ConfigError
from recsys.events.memory import MemoryStore
from serving.app import create_app
from serving.fakes import fake_model
from serving.http.access import SCOPES, RouteScopes, TokenBucket, retry_after
from serving.http.admission import AdmissionControl
from serving.http.keyring import Keyring
from serving.http.keys import (
    KEY_SCOPES,
    ROLES,
    KeyFile,
    KeyScope,
    change_keys,
    key_digest,
    new_key,
    parse_role,
    parse_scopes,
    read_keys,
    without_key,
)
from serving.models.by_alias import FixedModel
from serving.settings import Settings
from tests.support.key_files import with_key, write_keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Keys:
    """A file with one key a scope, and more as a test makes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write_keys(path, KeyFile())
        self.of = {scope: self.make(scope) for scope in KEY_SCOPES}

    def make(self, *scopes: KeyScope, **options: Any) -> str:
        key, entry = new_key("test", scopes, now=NOW, **options)
        change_keys(self.path, lambda known: with_key(known, entry))
        return key

    def revoke(self, key: str) -> None:
        change_keys(self.path, lambda known: without_key(known, key.split("_")[1]))


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.json")


@pytest.fixture
def locked(keys: Keys, store: MemoryStore, running: Any) -> Iterator[httpx.Client]:
    settings = Settings(keys_file=keys.path, keys_refresh_seconds=0.0)
    with running(create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)) as api:
        yield api


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def concrete(path: str) -> str:
    return path.replace("{", "x").replace("}", "x")


def test_every_route_of_the_document_is_in_the_table(keys: Keys, store: MemoryStore) -> None:
    settings = Settings(keys_file=keys.path)
    document = create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW).openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert method.upper() in SCOPES.get(path, {}), f"{method} {path} has no scope"
            scope = SCOPES[path][method.upper()]
            assert operation.get("security") == (None if scope is None else [{"key": []}])
            if scope is not None:
                assert {"401", "403", "429"} <= set(operation["responses"])
                assert f"`{scope}`" in operation["description"]


def test_each_scope_opens_its_routes_and_no_other(locked: httpx.Client, keys: Keys) -> None:
    tried = 0
    for path, methods in SCOPES.items():
        for method, wanted in methods.items():
            nobody = locked.request(method, concrete(path))
            assert nobody.status_code != 401 if wanted is None else nobody.status_code == 401, path
            for scope, key in keys.of.items():
                answered = locked.request(method, concrete(path), headers=bearer(key))
                refused = wanted not in (None, scope)
                assert (answered.status_code == 403) == refused, (method, path, scope, answered.text)
                assert answered.status_code != 401
                tried += 1
    assert tried == 4 * sum(len(methods) for methods in SCOPES.values())


def test_what_the_table_does_not_list_asks_for_the_widest_scope(locked: httpx.Client, keys: Keys) -> None:
    assert locked.get("/v1/secrets").status_code == 401
    assert locked.get("/v1/secrets", headers=bearer(keys.of["offers"])).status_code == 403
    assert locked.get("/v1/secrets", headers=bearer(keys.of["admin"])).status_code == 404
    assert locked.delete("/v1/offers", headers=bearer(keys.of["offers"])).status_code == 403
    assert RouteScopes().route_of("/v1/accounts/a/b\n/offers") == "/v1/accounts/{account_id}/offers"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer"},
        {"Authorization": "Basic b2ZrOng="},
        {"Authorization": "Bearer ofk_000000000000_" + "A" * 43},
        {"Authorization": "Bearer nonsense"},
        {"X-API-Key": "ofk_"},
    ],
)
def test_a_key_that_is_none_is_401_and_says_how_to_send_one(locked: httpx.Client, headers: dict[str, str]) -> None:
    answered = locked.post("/v1/offers", json={}, headers=headers)
    assert answered.status_code == 401
    assert answered.headers["WWW-Authenticate"].startswith("Bearer")
    assert answered.headers["Content-Type"] == "application/problem+json"
    assert answered.headers["X-Content-Type-Options"] == "nosniff"


def test_the_secret_counts_and_not_the_id_alone(locked: httpx.Client, keys: Keys) -> None:
    key = keys.of["offers"]
    other = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert locked.post("/v1/offers", json={}, headers=bearer(other)).status_code == 401
    assert locked.post("/v1/offers", json={}, headers={"X-API-Key": key}).status_code == 200


def test_keys_come_and_go_without_a_restart(locked: httpx.Client, keys: Keys) -> None:
    fresh = keys.make("offers", "outcomes")
    assert locked.post("/v1/offers", json={}, headers=bearer(fresh)).status_code == 200
    keys.revoke(fresh)
    assert locked.post("/v1/offers", json={}, headers=bearer(fresh)).status_code == 401


def test_a_file_that_stays_broken_opens_nothing_and_the_server_is_not_ready(
    keys: Keys, store: MemoryStore, running: Any
) -> None:
    settings = Settings(keys_file=keys.path, keys_refresh_seconds=0.0, keys_max_age_seconds=1e-9)
    with running(create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)) as api:
        good = keys.path.read_bytes()
        for broken in (b"{", b"", b'{"keys": [{"key_id": "x"}]}', None):
            if broken is None:
                keys.path.unlink()
            else:
                keys.path.write_bytes(broken)
            refused = api.post("/v1/offers", json={}, headers=bearer(keys.of["offers"]))
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert "file of keys" in refused.json()["detail"]
            assert str(keys.path) not in refused.text
            assert api.get("/readyz").status_code == 503
            assert api.get("/livez").status_code == 200
            keys.path.write_bytes(good)
            assert api.post("/v1/offers", json={}, headers=bearer(keys.of["offers"])).status_code == 200
            assert api.get("/readyz").status_code == 200


def test_a_role_opens_its_scopes_and_no_other(locked: httpx.Client, keys: Keys) -> None:
    routes = {"offers": "/v1/offers", "outcomes": "/v1/orders", "sales": "/v1/referrals/r", "admin": "/v1/products"}
    for role, scopes in ROLES.items():
        key = keys.make(role=role, owner="team@firm.example")
        for scope, path in routes.items():
            refused = locked.post(path, headers=bearer(key)).status_code == 403
            assert refused == (scope not in scopes), (role, scope)
    assert ROLES["administrator"] == KEY_SCOPES


def test_a_key_expires(keys: Keys) -> None:
    key = keys.make("offers", expires_at=NOW + timedelta(days=1))
    now = [NOW]
    admission = AdmissionControl(Keyring(keys.path, 0.0), lambda: now[0], lambda: 0.0, 1_024, {})
    headers = [(b"authorization", f"Bearer {key}".encode())]
    assert admission.admit("POST", "/v1/offers", b"", headers, "r-1").scope == "offers"
    now[0] += timedelta(days=1)
    with pytest.raises(HTTPException, match="401"):
        admission.admit("POST", "/v1/offers", b"", headers, "r-1")


def test_beyond_its_rate_a_key_is_429_with_the_pause_and_others_go_on(locked: httpx.Client, keys: Keys) -> None:
    slow = keys.make("offers", requests_per_second=0.1, burst=2)
    codes = [locked.post("/v1/offers", json={}, headers=bearer(slow)).status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    refused = locked.post("/v1/offers", json={}, headers=bearer(slow))
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert locked.post("/v1/offers", json={}, headers=bearer(keys.of["offers"])).status_code == 200


def test_a_batch_costs_what_its_questions_would_have_cost_alone(locked: httpx.Client, keys: Keys) -> None:
    """A tenth a second and a burst of 5: after a batch of 25 the key owes 20, and one for the next."""
    slow = bearer(keys.make("offers", requests_per_second=0.1, burst=5))

    def batch(*questions: dict[str, Any]) -> httpx.Response:
        return locked.post("/v1/offers:batch", json={"requests": list(questions)}, headers=slow)

    assert [batch({"limit": -1}).status_code for _ in range(2)] == [422, 422]  # what is not answered counts as one
    assert batch(*({"account_id": f"A{i}"} for i in range(23))).status_code == 200
    refused = locked.post("/v1/offers", json={}, headers=slow)
    assert refused.status_code == 429
    assert 190 < int(refused.headers["Retry-After"]) <= 210
    assert batch({}).status_code == 429
    free = bearer(keys.make("offers"))
    assert locked.post("/v1/offers:batch", json={"requests": [{}] * 25}, headers=free).status_code == 200


def test_what_is_owed_is_paid_before_the_next_request() -> None:
    bucket = TokenBucket(rate=10, burst=5, now=0.0)
    assert bucket.wait(0.0) == 0.0
    bucket.owe(24)
    assert bucket.wait(1.0) == pytest.approx(1.1)
    assert bucket.wait(2.05) == pytest.approx(0.05)
    assert bucket.wait(2.15) == 0.0


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 5), max_size=200),
)
def test_a_bucket_lets_no_more_pass_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    bucket, now, passed = TokenBucket(rate=rate, burst=burst, now=0.0), 0.0, 0
    for pause in pauses:
        now += pause
        wait = bucket.wait(now)
        passed += wait == 0.0
        assert wait >= 0
        if wait > 0:
            assert int(retry_after(wait)) >= wait
    assert passed <= burst + rate * now + 1e-6


def test_no_key_and_no_account_is_repeated(locked: httpx.Client, keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    key = keys.of["outcomes"]
    for answered in (
        locked.get("/v1/accounts/A-private/offers", headers=bearer(key)),
        locked.get("/v1/accounts/A-private/offers", headers=bearer(key + "x")),
    ):
        assert answered.status_code in {401, 403}
        assert "A-private" not in answered.text
        assert key not in answered.text
    assert "A-private" not in caplog.text
    assert key not in caplog.text


def test_the_file_holds_no_key(keys: Keys) -> None:
    content = keys.path.read_text()
    assert all(key not in content and key.split("_", 2)[2] not in content for key in keys.of.values())
    assert {entry["scopes"][0] for entry in json.loads(content)["keys"]} == set(KEY_SCOPES)


def test_wrong_files_and_scopes_are_told_in_a_sentence(tmp_path: Path, keys: Keys) -> None:
    with pytest.raises(ConfigError, match=r"no such file; `offers key create"):
        read_keys(tmp_path / "none.json")
    entry = read_keys(keys.path).keys[0]
    twice = {"keys": [entry.model_dump(mode="json")] * 2}
    keys.path.write_text(json.dumps(twice))
    with pytest.raises(ConfigError, match="two keys have one key_id") as caught:
        read_keys(keys.path)
    assert entry.sha256 not in str(caught.value)
    with pytest.raises(ConfigError, match="must be of offers, outcomes, sales, admin"):
        parse_scopes(["everything"])
    with pytest.raises(ConfigError, match="must be one of the file's"):
        without_key(KeyFile(keys=(entry,)), "000000000000")
    with pytest.raises(ConfigError, match="must be of storefront, sales, orders, operator, administrator"):
        parse_role("everything")
    either: list[dict[str, Any]] = [{}, {"scopes": ("offers",), "role": "sales"}]
    for options in either:
        with pytest.raises(ConfigError, match="either a role or scopes"):
            new_key("x", now=NOW, **options)
    with pytest.raises(ConfigError, match=r"owner == 'a\\nb'"):
        new_key("x", now=NOW, role="sales", owner="a\nb")


def test_a_file_of_before_there_were_owners_and_roles_is_read_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = "ofk_0123456789ab_" + "A" * 43
    old: dict[str, Any] = {
        "key_id": "0123456789ab",
        "name": "shop",
        "scopes": ["offers"],
        "sha256": key_digest(key.encode()),
    }
    old |= {"created_at": "2026-03-01T12:00:00Z", "expires_at": None, "requests_per_second": None, "burst": 20}
    path.write_text(json.dumps({"keys": [old]}))
    (entry,) = read_keys(path).keys
    assert (entry.owner, entry.role, entry.granted_scopes) == (None, None, ("offers",))
    change_keys(path, lambda known: known)
    written = {name: value for name, value in old.items() if value is not None}
    assert json.loads(path.read_text()) == {"keys": [written]}  # and a server of before reads it


@pytest.mark.parametrize(("origins", "allowed"), [((), None), (("https://shop.example",), "https://shop.example")])
def test_other_origins_may_call_only_where_set(
    store: MemoryStore, running: Any, origins: tuple[str, ...], allowed: str | None
) -> None:
    settings = Settings(cors_origins=origins)
    with running(create_app(settings, bundles=FixedModel(fake_model()), store=store, clock=lambda: NOW)) as api:
        asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        assert api.options("/v1/offers", headers=asked).headers.get("Access-Control-Allow-Origin") == allowed
        plain = api.post("/v1/offers", json={}, headers={"Origin": "https://shop.example"})
        assert plain.headers.get("Access-Control-Allow-Origin") == allowed
        other = api.post("/v1/offers", json={}, headers={"Origin": "https://else.example"})
        assert other.headers.get("Access-Control-Allow-Origin") is None
