"""`offers key`: made, shown once, listed, revoked; and a server that wants them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import httpx
import pytest

from recsys.cli import main
from serving.http.keys import key_digest, read_keys

KNOWN = {"key": EntryPoint("key", "serving.cli:key", "offer_engine.commands")}


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["key", *arguments], KNOWN)
    return int(caught.value.code or 0)


def test_a_key_is_shown_once_and_its_hash_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "var" / "keys.json")
    made: tuple[str, ...] = ("create", "--name", "storefront", "--owner", "web@firm.example", "--keys", file)
    made += ("--scope", "outcomes", "--scope", "offers")
    assert run(*made, "--days", "30", "--rate", "50", "--burst", "10") == 0
    shown = capsys.readouterr()
    key = shown.out.strip()
    (entry,) = read_keys(Path(file)).keys
    assert (entry.name, entry.scopes, entry.sha256) == ("storefront", ("offers", "outcomes"), key_digest(key.encode()))
    assert (entry.requests_per_second, entry.burst) == (50.0, 10)
    assert entry.expires_at is not None
    assert (entry.expires_at - entry.created_at).days == 30
    assert key not in shown.err
    assert run("list", "--keys", file) == 0
    listed = capsys.readouterr().out
    assert entry.key_id in listed
    assert "storefront  web@firm.example  offers,outcomes  until" in listed
    assert key not in listed
    assert run("revoke", entry.key_id, "--keys", file) == 0
    assert read_keys(Path(file)).keys == ()


def test_a_role_stands_for_its_scopes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.json")
    assert run("create", "--name", "crm", "--owner", "sales@firm.example", "--role", "sales", "--keys", file) == 0
    (entry,) = read_keys(Path(file)).keys
    assert (entry.owner, entry.role) == ("sales@firm.example", "sales")
    capsys.readouterr()
    assert run("list", "--keys", file) == 0
    assert capsys.readouterr().out == f"{entry.key_id}  crm  sales@firm.example  sales (offers,outcomes,sales)\n"


def test_what_is_wrong_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "keys.json")
    for options, sentence in (
        (("--scope", "all"), "must be of offers, outcomes, sales, admin"),
        (("--role", "all"), "must be of storefront, sales, orders, operator, administrator"),
        ((), "a key must have either a role or scopes"),
        (("--role", "sales", "--scope", "offers"), "a key must have either a role or scopes"),
        (("--role", "sales", "--owner", ""), "owner == ''"),
    ):
        assert run("create", "--name", "x", "--owner", "team", *options, "--keys", file) == 1
        assert sentence in capsys.readouterr().err
    assert run("create", "--name", "x", "--role", "sales", "--keys", file) == 2  # no owner
    assert "--owner" in capsys.readouterr().err
    assert not Path(file).exists()
    assert run("list", "--keys", file) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_server_with_keys_may_leave_loopback_and_asks_for_them(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "keys.json")
    run("create", "--name", "shop", "--owner", "team", "--role", "storefront", "--keys", file)
    key = capsys.readouterr().out.strip()
    command = [str(Path(sys.executable).parent / "offers"), "serve", "--model", str(bundle_folder), "--port", "0"]
    command += ["--host", "0.0.0.0", "--keys", file, "--store", f"sqlite:///{tmp_path}/e.db"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        url = json.loads(process.stderr.readline())["url"].replace("0.0.0.0", "127.0.0.1")
        try:
            assert httpx.post(f"{url}/v1/offers", json={}).status_code == 401
            answered = httpx.post(f"{url}/v1/offers", json={}, headers={"Authorization": f"Bearer {key}"})
            assert answered.status_code == 200, answered.text
        finally:
            process.terminate()
            _, rest = process.communicate(timeout=30)
    assert key not in rest
