"""The image and the composition, without Docker: what they copy is there, and their commands run."""

from __future__ import annotations

import json
import re
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import httpx
import pytest
import yaml

from serving.http.keys import KeyFile, new_key, read_keys
from tests.support.installation import link_distributions, locked, python_of_links
from tests.support.key_files import with_key, write_keys

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def instructions() -> list[tuple[str, str]]:
    """The words of the Dockerfile, an argument as it is left out."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "deploy" / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    parts = [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]
    defaults = dict(rest.split("=") for word, rest in parts if word == "ARG")
    return [(word, re.sub(r"\$\{(\w+)\}", lambda found: defaults[found[1]], rest)) for word, rest in parts]


def listed(word: str) -> list[str]:
    (found,) = [rest for name, rest in instructions() if name == word]
    return list(json.loads(found))


def test_the_image_is_built_of_pinned_parts_that_are_there() -> None:
    parts = instructions()
    assert {name for name, _ in parts} <= {
        *(
            "FROM",
            "ARG",
            "ENV",
            "WORKDIR",
            "COPY",
            "RUN",
            "USER",
            "EXPOSE",
            "STOPSIGNAL",
            "HEALTHCHECK",
            "ENTRYPOINT",
            "CMD",
        )
    }
    for name, rest in parts:
        if name == "FROM":
            assert re.fullmatch(r"python:3\.11-slim-bookworm( AS build)?", rest)
        if name == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
        if name == "RUN":
            assert "sudo" not in rest
            assert "curl" not in rest
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().split()
    assert not {"recsys", "serving", "training", "deploy", "pyproject.toml"} & set(ignored)
    assert "deploy/keys.json" in ignored


def test_the_image_runs_as_nobody_special_and_says_how_it_is() -> None:
    names = [name for name, _ in instructions()]
    users = [rest for name, rest in instructions() if name == "USER"]
    assert users == ["10001"]  # a number: a cluster that refuses root can't look a name up
    assert names.index("USER") < names.index("ENTRYPOINT")
    check = next(rest for name, rest in instructions() if name == "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    compile(command[2], "healthcheck", "exec")
    assert "/readyz" in command[2]


def test_the_package_needs_nothing_that_the_image_leaves_out(tmp_path: Path) -> None:
    """The second RUN: the package builds from what was copied, templates and all."""
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    context = tmp_path / "context"
    context.mkdir()
    for source in (name for names in copied for name in names):
        (context / source).parent.mkdir(exist_ok=True)
        (context / source).symlink_to(ROOT / source)
    run = next(rest for name, rest in instructions() if name == "RUN" and "--no-build-isolation" in rest)
    words = shlex.split(run.replace("/opt/offers/bin/python", sys.executable))
    done = subprocess.run(
        [*words, "--target", str(tmp_path / "installed")], cwd=context, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "installed" / "serving" / "templates" / "docs.html.j2").is_file()


def test_services_wait_for_each_other_and_keep_their_data() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"postgres", "mlflow", "offers"}
    for name in services["offers"]["depends_on"]:
        assert services[name]["healthcheck"]["test"]
    for name, service in services.items():
        assert ":latest" not in service["image"]
        for mount in service.get("volumes", []):
            assert mount.split(":")[0] in COMPOSE["volumes"], name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert set(services["offers"]["secrets"]) == set(COMPOSE["secrets"])
    assert "set a password" in services["postgres"]["environment"]["POSTGRES_PASSWORD"]


def test_the_key_of_the_composition_is_made_as_its_head_says(tmp_path: Path) -> None:
    (line,) = re.findall(r"^#   offers (key create .*)$", (ROOT / "deploy" / "compose.yaml").read_text(), re.MULTILINE)
    secret = COMPOSE["secrets"]["offer_keys"]["file"]
    words = line.replace(f"deploy/{Path(secret).name}", str(tmp_path / "keys.json")).split()
    subprocess.run([str(BIN / "offers"), *words], check=True, capture_output=True)
    (entry,) = read_keys(tmp_path / "keys.json").keys
    assert entry.granted_scopes == ("offers", "outcomes")
    assert (tmp_path / "keys.json").stat().st_mode & stat.S_IROTH  # the image's user is not the file's owner


def test_the_server_of_the_composition_runs(bundle_folder: Path, tmp_path: Path) -> None:
    """Its command as it stands with what its image installs, and this machine's folders in place of the container's."""
    from datetime import UTC, datetime

    key, entry = new_key("test", ("offers", "outcomes", "admin"), now=datetime.now(UTC))
    write_keys(tmp_path / "keys.json", with_key(KeyFile(), entry))
    there = {
        "models:/offers@champion": str(bundle_folder),
        "--port=8000": "--port=0",
        "--workers=2": "--workers=1",
        "/run/secrets/offer_keys": str(tmp_path / "keys.json"),
        "http://mlflow:5000": f"sqlite:///{tmp_path}/mlflow.db",
    }
    command = [_replaced(word, there) for word in COMPOSE["services"]["offers"]["command"]]
    command = [f"--store=sqlite:///{tmp_path}/e.db" if word.startswith("--store=") else word for word in command]
    assert listed("ENTRYPOINT") == ["offers"]
    installed = link_distributions(tmp_path / "installed", locked(ROOT / "deploy" / "serve.lock"))
    words = python_of_links("-c", "from recsys.cli import main; main()", *command)
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=installed) as process:
        assert process.stderr is not None
        url = json.loads(process.stderr.readline())["url"].replace("0.0.0.0", "127.0.0.1")
        try:
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.post(f"{url}/v1/offers", json={}, headers=headers).status_code == 200
            order = {"order_id": "1", "account_id": "A", "lines": [{"product_id": "P", "unit_price": 2.0}]}
            assert httpx.post(f"{url}/v1/orders", json={"orders": [order]}, headers=headers).status_code == 200
            assert httpx.get(f"{url}/v1/kpis", headers=headers, timeout=30).status_code == 200
            assert httpx.get(f"{url}/readyz").status_code == 200
        finally:
            process.terminate()
            process.communicate(timeout=30)
    assert process.returncode == 0


def _replaced(word: str, there: dict[str, str]) -> str:
    for old, new in there.items():
        word = word.replace(old, new)
    return word


@pytest.mark.proof
def test_hadolint_finds_no_fault_in_the_image() -> None:
    command = [str(BIN / "hadolint"), str(ROOT / "deploy" / "Dockerfile")]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, ""), found.stdout


@pytest.mark.proof
def test_the_registry_of_the_composition_runs(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    port = 18_500
    there = {"/srv/offers/": f"{tmp_path}/", "0.0.0.0": "127.0.0.1", "--port=5000": f"--port={port}"}
    words = [_replaced(word, there) for word in COMPOSE["services"]["mlflow"]["command"]]
    with subprocess.Popen(
        [str(BIN / "mlflow"), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    ) as process:
        try:
            asked = Request(f"http://127.0.0.1:{port}/health", headers={"Host": "mlflow:5000"})
            assert _answers(asked)
        finally:
            process.terminate()


def _answers(asked: Request) -> bool:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            with urlopen(asked, timeout=5) as answered:
                return bool(answered.status == 200)
        except (URLError, ConnectionError):
            time.sleep(0.5)
    return False
