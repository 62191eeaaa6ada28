"""The compiled ranking answers what the plain one answers, bit by bit, whatever is asked and whatever has changed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.contracts.offers import EMPTY_STATE, KINDS, AccountState, CartLine, OfferRequest, ProductChange
from recsys.offer_catalogue.business_rules import BusinessRule
from recsys.offer_model.tables import OfferModel
from recsys.ranking.compiled_ranker import _Answer, compile_kernel
from recsys.ranking.config import DiversityConfig, RankingConfig
from recsys.ranking.engine import OfferEngine
from recsys.ranking.kernel import rank as rank_module
from recsys.ranking.kernel.layout import ANSWER, OFFER
from recsys.ranking.kernel.rank import sources_digest
from recsys.ranking.ranked import RankedOffer
from tests.support.reference_ranker.ranker import ReferenceRanker, ReferenceSlate
from tests.support.synthetic_model import SyntheticModelConfig, synthetic_model, with_price_breaks

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PROOF = REPOSITORY / "docs" / "proof" / "ranker_oracle.json"
N_ACCOUNTS, N_PRODUCTS = 30, 110
COMPILED_RANK: Any = rank_module.rank  # with what numba adds to it


def model_of(seed: int, **changes: Any) -> OfferModel:
    config = SyntheticModelConfig(n_accounts=N_ACCOUNTS, n_products=N_PRODUCTS, n_categories=3)
    return with_costs(synthetic_model(config.model_copy(update=changes), np.random.default_rng(seed)))


def with_costs(model: OfferModel) -> OfferModel:
    """A cost for two products of three, some above the price: a margin may be negative."""
    rng, price = np.random.default_rng(0), np.asarray(model.products.price)
    cost = np.where(rng.random(len(price)) < 2 / 3, price * rng.uniform(0.3, 1.2, len(price)), np.nan)
    return replace(model, products=replace(model.products, cost=cost))


def with_ties(model: OfferModel) -> OfferModel:
    """Half of all candidates and weights alike, so that order rests on scores and ids; half of all prices unknown."""
    candidates, cart, products = model.candidates, model.cart, model.products
    even = np.arange(len(candidates.product)) % 2 == 0
    score = np.where(even, np.float32(0.1), candidates.score)
    probability = np.where(even, np.float32(0.1), candidates.probability)
    weight = np.where(np.arange(len(cart.weight)) % 2 == 0, np.float32(0.2), cart.weight)
    price = np.where(np.arange(len(products.price)) % 2 == 0, np.nan, products.price)
    return replace(
        model,
        candidates=replace(candidates, score=score, probability=probability),
        cart=replace(cart, weight=weight),
        products=replace(products, price=price),
    )


def with_variants(model: OfferModel) -> OfferModel:
    """Half of the products in groups of variants, a third held back."""
    rng, n_products = np.random.default_rng(0), len(model.products.ids)
    group = np.where(rng.random(n_products) < 0.5, rng.integers(1, n_products // 6, n_products), 0).astype(np.int32)
    held_back = np.where(rng.random(n_products) < 1 / 3, rng.random(n_products), 0.0).astype(np.float32)
    return replace(model, products=replace(model.products, variant_group=group, held_back=held_back))


def with_opt_outs(model: OfferModel) -> OfferModel:
    return replace(
        model, accounts=replace(model.accounts, do_not_offer=np.arange(len(model.accounts.do_not_offer)) % 4 == 0)
    )


TIGHT = RankingConfig(
    diversity=DiversityConfig(max_kind_share=0.5, max_category_share=0.3, least_worth=0.5), relevance_floor=0.5
)
VARIED = RankingConfig(diversity=DiversityConfig(mix="none", variants="keep", variant_ranks=2))
BARE = {"candidates_per_account": 0, "links_per_product": 25}


def engines() -> dict[str, OfferEngine]:
    return {
        "plain": OfferEngine(with_opt_outs(model_of(1))),
        "accounts without candidates": OfferEngine(model_of(2, **BARE)),
        "ties": OfferEngine(with_ties(model_of(3))),
        "tight caps": OfferEngine(model_of(4), TIGHT),
        "variants": OfferEngine(with_variants(model_of(7))),
        "scores alone": OfferEngine(with_variants(model_of(8)), VARIED),
        "price breaks": OfferEngine(with_price_breaks(model_of(6), np.random.default_rng(6))),
        "no accounts": OfferEngine(model_of(5, n_accounts=0, n_segments=0)),
    }


def bits(offer: RankedOffer) -> bytes:
    return struct.pack("6q7dq", *offer)


def answered(slate: Any) -> dict[str, Any]:
    fields = {name: getattr(slate, name) for name in ReferenceSlate.__dataclass_fields__}
    return fields | {"offers": [bits(offer) for offer in slate.offers]}


class Questions:
    """Draws requests over every option, states, changes and business rules, evenly so that rare ones meet."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)

    def one(self, *choices: Any) -> Any:
        return choices[int(self._rng.integers(len(choices)))]

    def products(self, most: int) -> list[str]:
        rows = self._rng.integers(0, N_PRODUCTS + 4, int(self._rng.integers(0, most + 1)))  # the last ones are unknown
        return [f"P{row:06d}" for row in rows]

    def request(self) -> OfferRequest:
        account = f"A{int(self._rng.integers(0, N_ACCOUNTS + 2)):07d}"
        return OfferRequest(
            account_id=self.one(None, account, account, account, "", "\ud800é"),
            cart=tuple(CartLine(product, self._rng.uniform(0.5, 20)) for product in self.products(self.one(0, 8))),
            viewed_product_id=self.one(None, None, *self.products(1)),
            kinds=self.one(KINDS, KINDS, KINDS[:1], KINDS[1:], KINDS[::-1]),
            limit=self.one(1, 3, 10, 10, 40, 100, 500),
            exclude=frozenset(self.products(5)),
            new_only=self.chance(0.3),
            objective=self.one("conversion", "revenue", "margin"),
            raw=self.chance(0.2),
            categories=self.one(
                *[()] * 9, ("Category 1",), ("Category 0", "Category 2", "unheard of"), ("unheard of",)
            ),
            min_price=self.one(*[None] * 7, 5.0, 12.0),
            max_price=self.one(*[None] * 7, 8.0, 20.0),
            channel=self.one(None, "web"),
            region=self.one(None, "north"),
            sources=self.one("all", "all", "all", "evidence", "popular"),
            mix=self.one(None, None, "none", "kinds", "categories", "all"),
            variants=self.one(None, None, "leave_out", "keep"),
        )

    def state(self) -> AccountState:
        if self.chance(0.4):
            return EMPTY_STATE
        return AccountState(
            bought=tuple(self.products(14)),
            suppressed=dict.fromkeys(self.products(3), "declined lately"),
            segment=self.one(None, "segment 0", "segment 1", "nobody's"),
            region=self.one(None, "north"),
            do_not_offer=self.one(None, None, None, False, False, True),
            opt_out_reason=self.one(*[None] * 9, "enough for today"),
            is_forgotten=self.chance(0.1),
        )

    def change(self) -> ProductChange:
        return ProductChange(
            f"P{int(self._rng.integers(0, N_PRODUCTS)):06d}",
            price=self.one(None, 5.0, 7.5),
            cost=self.one(None, 4.0, 9.0),
            active=self.one(*[True] * 9, False),
            stock=self.one(*[3.0] * 9, 0.0),
            do_not_offer=self.one(*[False] * 9, True),
        )

    def rules(self) -> list[BusinessRule]:
        return [self._rule(number) for number in range(int(self._rng.integers(0, 6)))]

    def _rule(self, number: int) -> BusinessRule:
        action = self.one("block", "pin", "require", "boost")
        said: dict[str, Any] = {"name": f"rule {number}", "action": action, "owner": "A. Buyer", "reason": "spring"}
        said["products"] = (tuple(self.products(4)) or ("P000003",))[: 1 if action == "pin" else None]
        if action != "pin" and self.chance(0.2):
            said["categories"] = ("Category 1",)
        if self.chance(0.3):
            said[self.one("channels", "regions", "segments")] = ("web", "north", "segment 1")
        if action == "boost":
            said["factor"] = self.one(0.5, 2.0, 30.0)
        if action in {"pin", "require"}:
            said["rank"] = self.one(1, 2, 3, 5)
        if action != "block" and self.chance(0.4):
            said["discount_percent"] = self.one(10, 25.5)
        return BusinessRule.model_validate(said)


def check(seed: int, n_requests: int) -> Counter[str]:
    """Ask every engine and its oracle the same; return how often each option was asked."""
    asked: Counter[str] = Counter()
    questions = Questions(seed)
    for name, engine in engines().items():
        oracle = ReferenceRanker(engine)
        for number in range(n_requests):
            if number % 20 == 0:
                engine.use_rules(questions.rules())
            if number % 10 == 0:
                engine.apply(questions.change())
            request, state = questions.request(), questions.state()
            ranked = engine.rank(request, state)
            assert answered(ranked) == answered(oracle.rank(request, state)), (name, number, request, state)
            asked.update([f"model: {name}", f"objective: {request.objective}", f"sources: {request.sources}"])
            asked.update([f"raw: {request.raw}", f"any offer: {bool(ranked.offers)}"])
    return asked


def test_it_answers_bit_by_bit_what_the_plain_ranking_answers() -> None:
    asked = check(0, 150)
    assert min(asked.values()) >= 100, asked


def test_the_same_source_runs_as_plain_python_for_a_debugger() -> None:
    ask = "from tests.ranking.test_compiled_ranker import check; print(sum(check(2, 40).values()))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 8 * 40 * 5


def test_a_change_of_any_file_of_the_kernel_is_compiled_anew(tmp_path: Path) -> None:
    """Numba looks at the file of `rank` alone; what `rank` closes over tells it of the others."""
    here = Path(rank_module.__file__).parent
    shutil.copytree(here, tmp_path / "kernel", ignore=shutil.ignore_patterns("__pycache__"))
    before = sources_digest(tmp_path / "kernel")
    assert before == sources_digest(here)
    for file in sorted((tmp_path / "kernel").glob("*.py")):
        text = file.read_text("utf-8")
        file.write_text(text + "\n# changed\n", "utf-8")
        assert sources_digest(tmp_path / "kernel") != before
        file.write_text(text, "utf-8")
    closed_over = {cell.cell_contents for cell in COMPILED_RANK.py_func.__closure__}
    assert closed_over == {before}


def test_compiling_beforehand_compiles_what_requests_call() -> None:
    compile_kernel()
    compiled = list(COMPILED_RANK.signatures)
    OfferEngine(model_of(0)).recommend(OfferRequest(account_id="A0000000", limit=3))
    assert len(compiled) == 1
    assert COMPILED_RANK.signatures == compiled


def test_what_is_read_of_a_record_has_its_names() -> None:
    assert RankedOffer._fields == OFFER.names
    assert _Answer._fields == ANSWER.names


@pytest.mark.proof
@pytest.mark.timeout(2_400)
def test_proof_of_twenty_thousand_requests_on_each_model() -> None:
    asked = check(1, 20_000)
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    proof = {
        "measured_at": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine,
        "requests_on_each_model": 20_000,
        "models": sorted(engines()),
        "different": 0,
        "asked": dict(sorted(asked.items())),
    }
    PROOF.write_text(json.dumps(proof, indent=1) + "\n", "utf-8")
