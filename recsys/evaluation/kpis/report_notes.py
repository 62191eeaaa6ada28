"""What a report must say beside its figures: what can't be computed, and what may mislead in these data."""

from __future__ import annotations

from recsys.evaluation.kpis.attribution import Attribution
from recsys.evaluation.kpis.config import KpiConfig
from recsys.evaluation.kpis.definition import Basis
from recsys.evaluation.kpis.figures import Gathered
from recsys.evaluation.kpis.periods import label_of
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.results import Missing
from recsys.evaluation.kpis.sales import Sales

_NO_LOG = "not computable: there is no event log; name one with --events"
_NO_LADDER = "organic upsell is not computable: there are no upgrade edges; give --upgrades, or tiers of the products"


def missing_figures(
    sales: Sales, log: Attribution | None, bases: tuple[Basis, ...], config: KpiConfig
) -> tuple[Missing, ...]:
    """Return which figures the data can't give, and why."""
    no_families = (
        f"organic cross-sell is not computable: no product has a {config.families_by}; "
        + ("judge by category (--families category), or " if config.families_by == "family" else "")
        + "give products with families (--products)"
    )
    found = []
    for definition in REGISTRY.values():
        for basis in definition.bases:
            if basis in {"attributed", "log"} and ("attributed" not in bases or log is None):
                found.append(Missing(definition.name, basis, _NO_LOG))
            elif basis == "organic":
                reasons = []
                if definition.kind in {"cross_sell", "any"} and not sales.has_families:
                    reasons.append(no_families)
                if definition.kind in {"upsell", "any"} and not sales.has_ladder:
                    reasons.append(_NO_LADDER)
                if reasons:
                    found.append(Missing(definition.name, basis, "; ".join(reasons)))
    return tuple(found)


def notes_of(
    gathered: Gathered,
    log: Attribution | None,
    complete: frozenset[int],
    first_whole: bool,
    config: KpiConfig,
) -> tuple[str, ...]:
    """Return what a reader of these figures should know."""
    notes = []
    if gathered.periods:
        first, last = (label_of(number, config.period) for number in (gathered.periods[0], gathered.periods[-1]))
        if config.since is None:
            notes.append(
                f"The history starts in {first}: what accounts had before is not known, so that organic figures of "
                "the first periods are too high (more looks new) and too low (an account's first order counts for "
                "nothing). Start the figures later with --since."
            )
        if not first_whole:
            notes.append(f"{first} did not begin with the figures: it is a part of a {config.period}.")
        if gathered.periods[-1] not in complete:
            notes.append(f"{last} was not over at the figures' date: changes compare the {config.period}s before it.")
    if 0 < gathered.judged_share < 1:
        notes.append(
            f"{1 - gathered.judged_share:.1%} of the new sales to existing customers are of products without a "
            f"{config.families_by}: they can't be an organic cross-sell."
        )
    for dimension, n_groups in gathered.left_out:
        notes.append(f"By {dimension}: {n_groups:,} groups of lower revenue are not shown.")
    if log is not None and log.n_unpresented:
        notes.append(
            f"{log.n_unpresented:,} offers were reported accepted but never presented (shown or pitched): they count "
            "neither as accepted nor as presented."
        )
    return tuple(notes)
