"""How long a request takes, and what a large bundle costs to open: small against a million accounts."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from recsys.bundle.save import save_bundle
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model

PROOF = Path(__file__).resolve().parents[2] / "docs" / "proof" / "offer_latency.json"

SMALL = SyntheticModelConfig(
    n_accounts=5_000, n_products=4_000, candidates_per_account=60, owned_per_account=20, links_per_product=100
)
LARGE = SMALL.model_copy(
    update={"n_accounts": 1_000_000, "n_products": 100_000, "candidates_per_account": 50, "owned_per_account": 10}
)

# A process of its own for each bundle, so that its memory is the bundle's alone.
READER = """
import json, sys, time
from pathlib import Path
import numpy as np

def memory():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {kind: int(status[kind].split()[0]) // 1024 for kind in ("VmRSS", "RssAnon", "RssFile")}

began = time.perf_counter()
from recsys.bundle.load import load_bundle
from recsys.contracts.offers import CartLine, OfferRequest
from recsys.ranking.engine import OfferEngine
imported = time.perf_counter()
path, n_requests = Path(sys.argv[1]), int(sys.argv[2])
model = load_bundle(path).model
verified = time.perf_counter()
model = load_bundle(path, verify=False).model
mapped = time.perf_counter()
engine = OfferEngine(model)
ready = time.perf_counter()
before = memory()
rng = np.random.default_rng(0)
rows = rng.integers(0, len(model.accounts.ids), n_requests).tolist()
carts = rng.integers(0, len(model.products.ids), (n_requests, 3)).tolist()
ids, products = model.accounts.ids, model.products.ids

def timed(requests):
    for request in requests[:200]:
        engine.recommend(request)
    taken, cpu = [], time.process_time()
    for request in requests:
        start = time.perf_counter()
        engine.recommend(request)
        taken.append(1e6 * (time.perf_counter() - start))
    cpu = 1e6 * (time.process_time() - cpu) / len(requests)
    p50, p99 = np.percentile(taken, [50, 99])
    return {"p50_us": round(float(p50)), "p99_us": round(float(p99)), "mean_cpu_us": round(cpu)}

latency = {
    "account": timed([OfferRequest(ids[row]) for row in rows]),
    "account and cart of three": timed(
        [OfferRequest(ids[row], cart=tuple(CartLine(products[p]) for p in cart)) for row, cart in zip(rows, carts)]
    ),
    "popular": timed([OfferRequest() for _ in rows]),
}
print(json.dumps({
    "bytes_on_disk": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    "import_seconds": round(imported - began, 3),
    "load_and_verify_seconds": round(verified - imported, 3),
    "load_without_verifying_seconds": round(mapped - verified, 3),
    "engine_seconds": round(ready - mapped, 3),
    "megabytes_when_ready": before,
    "megabytes_after_requests": memory(),
    "latency": latency,
}))
"""


def measure(folder: Path, config: SyntheticModelConfig, n_requests: int) -> dict[str, object]:
    save_bundle(folder, synthetic_model(config, np.random.default_rng(0)))
    command = [sys.executable, "-c", READER, str(folder), str(n_requests)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return {"accounts": config.n_accounts, "products": config.n_products, **json.loads(done.stdout)}


def test_a_bundle_opens_and_answers_in_a_process_without_a_model_library(tmp_path: Path) -> None:
    """The small form: what is measured below is measurable, and serving pulls in no pandas, scikit-learn or skops."""
    found = measure(tmp_path / "bundle", SyntheticModelConfig(n_accounts=200, n_products=200), 50)
    assert set(found["latency"]) == {"account", "account and cart of three", "popular"}
    libraries = "{'pandas', 'scipy', 'sklearn', 'skops', 'mlflow'}"
    look = f"import sys, recsys.bundle, recsys.ranking; print(sorted({libraries} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.proof
def test_proof_of_latency_and_size(tmp_path: Path) -> None:
    small, large = measure(tmp_path / "small", SMALL, 3_000), measure(tmp_path / "large", LARGE, 3_000)
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    proof = {"measured_at": datetime.now(tz=UTC).date().isoformat(), "machine": machine, "small": small, "large": large}
    PROOF.parent.mkdir(parents=True, exist_ok=True)
    PROOF.write_text(json.dumps(proof, indent=1) + "\n", "utf-8")
    assert large["megabytes_after_requests"]["RssAnon"] < 500  # type: ignore[index]  # the rest is shared, file-backed
