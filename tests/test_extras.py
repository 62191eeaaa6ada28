"""The client needs two libraries; what needs more says which extra brings it; the locks hold what they should."""

from __future__ import annotations

import re
import resource
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.installation import ROOT, brought_by, link_distributions, locked, python_of_links

pytestmark = pytest.mark.slow

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
OFFERS = "from recsys.cli import main; main()"
IMAGES = {extra: ROOT / "deploy" / f"{extra}.lock" for extra in ("serve", "train")}


def names(lines: list[str]) -> set[str]:
    return {Requirement(line).name for line in lines}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of `pip install offer-engine`."""
    return link_distributions(tmp_path_factory.mktemp("base"), brought_by(PROJECT["project"]["dependencies"]))


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of `pip install "offer-engine[serve]"`, as the image has it."""
    return link_distributions(tmp_path_factory.mktemp("serve"), locked(IMAGES["serve"]))


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of `pip install "offer-engine[train]"`."""
    return link_distributions(tmp_path_factory.mktemp("train"), locked(IMAGES["train"]))


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = python_of_links("-c", *arguments)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_client_needs_httpx_and_pydantic_alone(base: dict[str, str]) -> None:
    assert names(PROJECT["project"]["dependencies"]) == {"httpx", "pydantic"}
    done = run(base, "import recsys.client, recsys.errors; print(recsys.client.OfferClient)")
    assert done.returncode == 0, done.stderr


def cpu_seconds(environment: dict[str, str], statement: str) -> float:
    """Return the processor time of a fresh process; it does not count the time that others on the machine take."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(environment, statement).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(("statement", "most"), [("import recsys", 0.05), ("import recsys.client", 0.6)])
def test_importing_is_fast(base: dict[str, str], statement: str, most: float, tmp_path: Path) -> None:
    """The best of several runs, less the best of as many bare ones between them; modules are compiled by the first."""
    compiled = {name: value for name, value in base.items() if name != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    runs = [(cpu_seconds(compiled, "pass"), cpu_seconds(compiled, statement)) for _ in range(7)]
    bare, imported = (min(times) for times in zip(*runs, strict=True))
    assert imported - bare < most


def test_without_an_extra_the_command_still_helps(base: dict[str, str]) -> None:
    assert "train" in run(base, OFFERS, "--help").stdout.split()
    assert run(base, OFFERS, "--version").stdout.startswith("offer-engine ")


@pytest.mark.parametrize(
    ("command", "extra"),
    [("train", "train"), ("check", "train"), ("kpis", "train"), ("recommend", "train"), ("serve", "serve")],
)
def test_a_command_names_the_extra_that_it_needs(base: dict[str, str], command: str, extra: str) -> None:
    done = run(base, OFFERS, command)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Error: .* needs .* and \d+ more, which .*\n", done.stderr), done.stderr
    assert f'pip install "offer-engine[{extra}]"\n' in done.stderr


@pytest.mark.parametrize(("module", "extra"), [("training", "train"), ("serving", "serve")])
def test_an_import_names_the_extra_that_it_needs(base: dict[str, str], module: str, extra: str) -> None:
    done = run(base, f"import {module}.cli")
    assert done.stderr.splitlines()[-1].startswith(f"recsys.errors.MissingExtraError: {module} needs ")
    assert f'pip install "offer-engine[{extra}]"' in done.stderr


def test_a_name_of_the_door_names_the_extra_that_it_needs(base: dict[str, str]) -> None:
    assert run(base, "from recsys import CartLine, Offer, OfferRequest, Slate, OfferEngineError").returncode == 0
    done = run(base, "from recsys import Recommender")
    assert done.stderr.splitlines()[-1].startswith("recsys.errors.MissingExtraError: recsys.Recommender needs ")
    assert 'pip install "offer-engine[train]"' in done.stderr


@pytest.mark.parametrize("command", [("train",), ("experiment", "power", "--orders", "orders.parquet")])
def test_beside_the_server_what_trains_names_its_extra(serve: dict[str, str], command: tuple[str, ...]) -> None:
    done = run(serve, OFFERS, *command)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith("the extra 'train' brings: pip install \"offer-engine[train]\"\n")


@pytest.mark.parametrize("command", ["check", "simulate", "kpis", "recommend", "export", "experiment", "key", "rules"])
def test_beside_the_server_the_other_commands_load(serve: dict[str, str], command: str) -> None:
    done = run(serve, OFFERS, command, "--help")
    assert done.returncode == 0, done.stderr


def test_a_server_starts_without_the_libraries_of_readouts(serve: dict[str, str]) -> None:
    heavy = {"ibis", "duckdb", "sqlglot", "scipy.stats", "pandas"}
    done = run(serve, f"import sys, serving.app; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout == "[]\n", done.stderr


def test_what_learns_from_lists_names_its_extra_before_anything_is_learned(train: dict[str, str]) -> None:
    made = "from recsys.models.next_product.model import NextProductConfig, NextProductModel as Model; "
    asked = "NextProductConfig.model_validate({'ranker': {'objective': 'listwise'}})"
    done = run(train, f"{made}Model({asked}).check_parts()")
    assert done.stderr.splitlines()[-1] == (
        'recsys.errors.MissingExtraError: next_product.ranker.objective == "listwise" needs lightgbm, '
        "which the extra 'lightgbm' brings: pip install \"offer-engine[lightgbm]\""
    )
    chosen = "from recsys.models.next_product.list_order import asked_order as a; "
    done = run(train, f"{chosen}print(a('auto', engines_own=True).sentence)")
    assert done.stdout == (
        "Order of offers: learned from single candidates, because LightGBM, which learns from lists, is not "
        'installed: pip install "offer-engine[lightgbm]".\n'
    )


def test_one_of_two_extras_is_enough(serve: dict[str, str]) -> None:
    call = "from recsys.extras import require; require(%s, what='this')"
    assert run(serve, call % "'train', 'serve'").returncode == 0
    assert "MissingExtraError: this needs" in run(serve, call % "'train'").stderr


@pytest.mark.parametrize("extra", IMAGES)
def test_an_image_has_its_extra_and_no_tool_of_tests_or_docs(extra: str) -> None:
    found = locked(IMAGES[extra])
    asked = PROJECT["project"]["optional-dependencies"]
    tools = names(PROJECT["dependency-groups"]["test"]) | names(PROJECT["dependency-groups"]["docs"])
    other = names(asked["train" if extra == "serve" else "serve"]) - names(asked[extra])
    assert names(asked[extra]) <= found
    assert not (tools | (other if extra == "serve" else set())) & found


@pytest.mark.parametrize("lock", [ROOT / "requirements.lock", ROOT / "requirements-peers.lock", *IMAGES.values()])
def test_a_lock_holds_hashes_and_names_no_registry(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert all("--hash=sha256:" in part for part in re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:])


def test_an_image_has_the_versions_that_the_tests_have() -> None:
    def pinned(lock: Path) -> set[str]:
        return set(re.findall(r"^[\w.-]+==\S+", lock.read_text("utf-8"), re.MULTILINE))

    assert all(pinned(lock) <= pinned(ROOT / "requirements.lock") for lock in IMAGES.values())
