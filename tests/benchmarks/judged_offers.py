"""Offers of two releases for a person to judge who does not see which release made them.

    python tests/benchmarks/judged_offers.py answer MODEL ORDERS --as-of DAY --out FILE # once with each release
    python tests/benchmarks/judged_offers.py mix BEFORE AFTER --out FOLDER              # items and key, by a fixed seed
    python tests/benchmarks/judged_offers.py count FOLDER                               # judgements beside the key

`answer` runs with the release that learned the model (PYTHONPATH names its checkout): 500 accounts that ordered in the
half-year before the day and 500 carts, two lines of orders in the 30 days after it. `mix` draws a hundred upgrades, a
hundred offers beside carts and a hundred reasons, half of them of each release, each of another account or cart. Prices
are medians of what accounts paid, and reasons are told by their product and counts alone, so that neither the prices
nor the words of a release give it away. Who judges writes `judgements.json`: {"upgrades": {"1": true, ...}, ...}.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pandas as pd
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from recsys import Dataset, Recommender
from recsys.contracts.offers import CartLine, OfferRequest

SEED: Final = 14
N_ASKED: Final = 500
N_JUDGED: Final = 100
RELEASES: Final = ("before", "after")
SETS: Final = ("upgrades", "carts", "reasons")

Answer = dict[str, Any]


def answer(model: str, orders: str, as_of: str) -> list[Answer]:
    """What a model offers 500 accounts and 500 carts: ten offers each, with what each of them bought."""
    data = Dataset.read(orders, preset="online-retail-ii")
    lines, names = data.lines(), dict(zip(data.products.product_id, data.products.name, strict=True))
    cutoff = pd.Timestamp(as_of, tz=lines.ordered_at.dt.tz)
    before, after = lines[lines.ordered_at < cutoff], lines[lines.ordered_at >= cutoff]
    prices = _prices(before, cutoff)
    rng = random.Random(SEED)
    engine = Recommender.load(model).engine_
    recent = before[before.ordered_at >= cutoff - timedelta(days=180)]
    answers = []
    for account in rng.sample(sorted(recent.account_id.dropna().unique()), N_ASKED):
        mine = before[before.account_id == account].sort_values("ordered_at")
        bought = mine.drop_duplicates("product_id", keep="last").product_id.tail(15)
        offers = engine.recommend(OfferRequest(str(account), limit=10, explain="full")).offers
        context = {"account": str(account), "bought_lately": [_named(names, product) for product in bought]}
        answers.append(context | {"offers": [_told(offer, names, prices) for offer in offers]})
    month = after[(after.ordered_at < cutoff + timedelta(days=30)) & after.product_id.isin(before.product_id.unique())]
    orders_of_month = (sorted(set(group)) for _, group in month.groupby("order_id").product_id)
    for products in rng.sample([order for order in orders_of_month if len(order) > 1], N_ASKED):
        cart = rng.sample(products, 2)
        request = OfferRequest(None, cart=tuple(CartLine(product) for product in cart), limit=10, explain="full")
        context = {"cart": [_named(names, product) for product in cart]}
        answers.append(
            context | {"offers": [_told(offer, names, prices) for offer in engine.recommend(request).offers]}
        )
    return answers


def _prices(lines: pd.DataFrame, cutoff: pd.Timestamp) -> dict[str, float]:
    paid = lines[lines.account_id.notna() & (lines.ordered_at >= cutoff - timedelta(days=180))]
    return dict(paid.groupby("product_id").unit_price.median().round(2))


def _named(names: Mapping[str, str], product: str) -> str:
    return names.get(product) or product


def _told(offer: Any, names: Mapping[str, str], prices: Mapping[str, float]) -> dict[str, Any]:
    anchor, evidence = offer.from_product_id, offer.evidence or {}
    told = {
        "kind": offer.kind,
        "offer": _named(names, offer.product_id),
        "because_of": _named(names, anchor) if anchor else None,
        "offer_costs": prices.get(offer.product_id),
        "that_costs": prices.get(anchor) if anchor else None,
    }
    for whole, part in (("n_orders_with_anchor", "n_orders_with_both"), ("n_peers", "n_buyers")):
        if whole in evidence:
            told["how_many"] = f"{evidence[part]:,} of {evidence[whole]:,}"
    return told


def mix(answers: Mapping[str, Sequence[Answer]]) -> tuple[dict[str, list[Answer]], dict[str, dict[str, str]]]:
    """Items without their release, and the key: the release of each."""
    rng = random.Random(SEED)
    items: dict[str, list[Answer]] = {}
    key: dict[str, dict[str, str]] = {}
    for name in SETS:
        drawn: list[tuple[str, Answer]] = []
        order = list(range(len(answers["before"])))
        rng.shuffle(order)
        for release in RELEASES:
            used = {item["asked"] for _, item in drawn}
            fit = [n for n in order if n not in used and _judged(answers[release][n], name)]
            for n in fit[: N_JUDGED // 2]:
                asked = answers[release][n]
                offer = dict(rng.choice(_judged(asked, name)))
                hidden = {"upgrades": ("how_many",), "carts": ("how_many", "because_of", "that_costs"), "reasons": ()}[
                    name
                ]
                context = {field: value for field, value in asked.items() if field not in ("offers", "account")}
                kept = {field: value for field, value in offer.items() if field not in hidden}
                drawn.append((release, {"asked": n} | context | kept))
        rng.shuffle(drawn)
        key[name] = {str(number): release for number, (release, _) in enumerate(drawn, 1)}
        items[name] = [{"item": number} | item for number, (_, item) in enumerate(drawn, 1)]
    return items, key


def _judged(asked: Answer, name: str) -> list[dict[str, Any]]:
    offers: list[dict[str, Any]] = asked["offers"]
    if name == "upgrades":
        return [offer for offer in offers if offer["kind"] == "upsell"]
    if ("cart" in asked) != (name == "carts"):
        return []
    return [offer for offer in offers[:4] if offer["kind"] == "cross_sell"]


def count(folder: Path) -> dict[str, Any]:
    """Shares judged well, of each release, with Wilson's intervals and Newcombe's for the difference."""
    key = json.loads((folder / "judged_key.json").read_text())
    judgements = json.loads((folder / "judgements.json").read_text())
    shown = json.loads((folder / "judged_shares.json").read_text())
    figures: dict[str, Any] = {}
    for name in SETS:
        said = judgements[name]
        if set(said) != set(key[name]):
            raise SystemExit(
                f"judgements.json: {name} has {len(said)} judgements, the key {len(key[name])}; judge each"
            )
        counts = {}
        for release in RELEASES:
            own = [bool(said[number]) for number, origin in key[name].items() if origin == release]
            low, high = proportion_confint(sum(own), len(own), method="wilson")
            counts[release] = {"judged": len(own), "good": sum(own), "interval": [round(low, 3), round(high, 3)]}
        after, before = counts["after"], counts["before"]
        low, high = confint_proportions_2indep(
            after["good"], after["judged"], before["good"], before["judged"], method="newcomb"
        )
        figures[name] = counts | {"difference": [round(low, 3), round(high, 3)]}
    for release in RELEASES:
        upgrades = figures["upgrades"][release]
        share = upgrades["good"] / upgrades["judged"] if upgrades["judged"] else 0.0
        figures[f"share_with_credible_upgrade_{release}"] = {
            who: round(shown[release][who] * share, 3) for who in ("accounts", "carts")
        }
    return figures


def _shares(answers: Sequence[Answer]) -> dict[str, float]:
    shares = {}
    for who, is_cart in (("accounts", False), ("carts", True)):
        asked = [one for one in answers if ("cart" in one) == is_cart]
        shares[who] = sum(bool(_judged(one, "upgrades")) for one in asked) / len(asked)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("answer")
    step.add_argument("model")
    step.add_argument("orders")
    step.add_argument("--as-of", required=True)
    step.add_argument("--out", type=Path, required=True)
    step = steps.add_parser("mix")
    for release in RELEASES:
        step.add_argument(release, type=Path)
    step.add_argument("--out", type=Path, required=True)
    step = steps.add_parser("count")
    step.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.step == "answer":
        _write(options.out, answer(options.model, options.orders, options.as_of))
    elif options.step == "mix":
        answers = {release: json.loads(getattr(options, release).read_text()) for release in RELEASES}
        items, key = mix(answers)
        options.out.mkdir(parents=True, exist_ok=True)
        _write(options.out / "judged_items.json", items)
        _write(options.out / "judged_key.json", key)
        _write(options.out / "judged_shares.json", {release: _shares(answers[release]) for release in RELEASES})
    else:
        figures = {"measured": datetime.now(UTC).date().isoformat()} | count(options.folder)
        _write(options.folder / "judged_offers.json", figures)
        print(json.dumps(figures, indent=1))


def _write(path: Path, document: object) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1) + "\n")
    part.replace(path)


if __name__ == "__main__":
    main()
