"""Intervals of the changes between two periods: which of them could be accounts ordering as they happen to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import ibis
from scipy.special import stdtrit

from recsys.evaluation.kpis.attribution import Attribution
from recsys.evaluation.kpis.config import KpiConfig, label_of
from recsys.evaluation.kpis.definition import Basis
from recsys.evaluation.kpis.figures import KpiAggregates
from recsys.evaluation.kpis.formulas import FORMULAS, Additional, RatioFormula, RatioParts
from recsys.evaluation.kpis.registry import REGISTRY
from recsys.evaluation.kpis.sums import ACCOUNT_CLUSTER, account_sums, bases_of, column_cell
from recsys.evaluation.kpis.values import ChangeInterval, KpiValue, compared_values

_COVERAGE: Final = 0.95
_TIMES: Final = ("before", "now")


class RatioColumns(NamedTuple):
    """A KPI as columns of a table with one row an account and period.

    Attributes:
        ratios: numerator, denominator and sign of each ratio.
        is_share: whether its value lies between 0 and 1.
    """

    ratios: tuple[tuple[ibis.Value, ibis.Value, int], ...]
    is_share: bool


def change_intervals(
    values: Sequence[KpiValue],
    gathered: KpiAggregates,
    log: Attribution | None,
    since: datetime | None,
    config: KpiConfig,
) -> dict[tuple[str, Basis], ChangeInterval]:
    """Return the interval of each KPI's change to the last complete period, by KPI and basis.

    A KPI has none if its formula is no ratio of sums over accounts, or if one of the two periods has fewer than two
    accounts below its line.
    """
    found: dict[tuple[str, Basis], ChangeInterval] = {}
    bases = bases_of(log)
    for periods, keys in _compared_periods(values, gathered, config).items():
        tables = account_sums(gathered.rows, None if log is None else log.offers, bases, periods, since)
        for source, table in tables.items():
            chosen = {key: FORMULAS[key[0]] for key in keys}
            ratios = {key: one for key, one in chosen.items() if isinstance(one, RatioFormula) and one.source == source}
            columns = {" ".join(key): _columns(table, *key, one, bases) for key, one in ratios.items()}
            if not columns:
                continue
            row = ratio_changes(table, columns, periods).to_pyarrow().to_pylist()[0]
            for key in ratios:
                one = interval_of(row, " ".join(key), is_share=REGISTRY[key[0]].unit == "share")
                if one is not None:
                    found[key] = one
    return found


def _compared_periods(
    values: Sequence[KpiValue], gathered: KpiAggregates, config: KpiConfig
) -> dict[tuple[int, int], list[tuple[str, Basis]]]:
    """Numbers of the two periods that are compared -> the KPIs, of all segments together, that compare them."""
    numbers = {label_of(number, config.period): number for number in gathered.periods}
    overall: dict[tuple[str, Basis], list[KpiValue]] = {}
    for item in values:
        if item.dimension is None and item.period is not None:
            overall.setdefault((item.kpi, item.basis), []).append(item)
    found: dict[tuple[int, int], list[tuple[str, Basis]]] = {}
    for key, series in overall.items():
        pair = compared_values(series)
        if pair is not None:
            before, now = (numbers[str(item.period)] for item in pair)
            found.setdefault((before, now), []).append(key)
    return found


def _columns(
    table: ibis.Table, name: str, basis: Basis, formula: RatioFormula, bases: tuple[Basis, ...]
) -> RatioColumns:
    cell, kind = column_cell(table, bases), REGISTRY[name].kind
    extra = cell.additional.get((basis, kind), Additional()) if kind else Additional()

    def worked(ratio: RatioParts, sign: int) -> tuple[Any, Any, int]:
        numerator, denominator = (part(cell, cell, extra) for part in ratio)
        return numerator, denominator, sign

    ratios = [worked(formula.ratio, 1)] + ([] if formula.minus is None else [worked(formula.minus, -1)])
    return RatioColumns(tuple(ratios), REGISTRY[name].unit == "share")


def ratio_changes(
    table: ibis.Table, kpis: Mapping[str, RatioColumns], compared: tuple[int, int], keys: Iterable[str] = ()
) -> ibis.Table:
    """Return one row (for each value of `keys`) with what `interval_of` needs of every KPI.

    Of a ratio `R = X / Y` of sums over accounts, account `i` contributes `(x_i - R y_i) / Y` to its error (delta
    method). An account that stands in both periods contributes the difference, so that what its two periods share
    falls out. A share gets one account of average size above the line and one below it in each period (Agresti and
    Caffo 2000): without them no purchase at all among few would look certain.

    Args:
        table: one row an account and period: `cluster`, `period`, the keys, and the columns of the KPIs.
        kpis: by name.
        compared: numbers of the earlier and the later period.
        keys: columns of groups that are judged apart.
    """
    kept = list(keys)
    placed = table.filter(table["period"].isin(compared))
    within = ibis.window(group_by=[*kept, "period"])
    columns: dict[str, ibis.Value] = {}
    for name, kpi in kpis.items():
        errors = ibis.literal(0.0)
        for at, (numerator, denominator, sign) in enumerate(kpi.ratios):
            x, y = numerator.cast("float64"), denominator.cast("float64")
            n = (y != 0).sum().over(within).cast("float64")
            added = (y.sum().over(within) / n.nullif(0)).fill_null(0.0) if kpi.is_share else ibis.literal(0.0)
            above, below = x.sum().over(within) + added, (y.sum().over(within) + 2 * added).nullif(0)
            ratio = above / below
            errors = errors + sign * (x - ratio * y) / below
            alone = ((1 - ratio) ** 2 + ratio**2) * (added / below) ** 2
            columns |= {f"{name} n{at}": n, f"{name} ratio{at}": sign * ratio, f"{name} alone{at}": alone}
        columns[f"{name} error"] = errors
    worked = placed.select(*kept, ACCOUNT_CLUSTER, "period", **columns)
    by_account = worked.group_by([*kept, ACCOUNT_CLUSTER]).agg(
        **{
            f"{column} {time}": worked[column].max(where=worked["period"] == number)
            for column in columns
            for time, number in zip(_TIMES, compared, strict=True)
        }
    )
    sums: dict[str, ibis.Value] = {}
    for name in kpis:
        before, now = (by_account[f"{name} error {time}"].fill_null(0.0) for time in _TIMES)
        sums |= {
            f"{name} squares": ((now - before) ** 2).sum(),
            f"{name} squares before": (before**2).sum(),
            f"{name} squares now": (now**2).sum(),
        }
    same = [
        column for column in by_account.columns if column not in {*kept, ACCOUNT_CLUSTER} and " error " not in column
    ]
    sums |= {column: by_account[column].max() for column in same}
    return by_account.group_by(kept).agg(**sums) if kept else by_account.agg(**sums)


def interval_of(row: Mapping[str, Any], name: str, *, is_share: bool) -> ChangeInterval | None:
    """Return the 95 % interval of a KPI's change from a row of `ratio_changes`; None with fewer than two accounts.

    Formula: `m / (m - 1) (sum of squares + excess)` is the variance, `m` the accounts of the period that has fewer,
    and the interval reaches Student's quantile with `m - 1` degrees of freedom to each side. The excess is what the
    variance would be greater by if accounts spread alike in both periods: a few accounts of a period that has just
    begun seldom show how far accounts spread. It is none where both periods have as many.
    """
    places = [at for at in ("0", "1") if f"{name} n{at} now" in row]
    counts = {time: min(row[f"{name} n{at} {time}"] or 0 for at in places) for time in _TIMES}
    ratios = {time: [row[f"{name} ratio{at} {time}"] for at in places] for time in _TIMES}
    fewest = min(counts.values())
    if fewest < 2 or None in (*ratios["before"], *ratios["now"]):
        return None
    alone = sum(row[f"{name} alone{at} {time}"] for at in places for time in _TIMES)
    squares = {time: row[f"{name} squares {time}"] for time in _TIMES}
    spread = sum(counts[time] ** 2 * squares[time] for time in _TIMES) / sum(counts.values())
    excess = max(0.0, sum(spread / counts[time] - squares[time] for time in _TIMES))
    variance = (row[f"{name} squares"] + alone + excess) * fewest / (fewest - 1)
    reach = float(stdtrit(fewest - 1, (1 + _COVERAGE) / 2)) * math.sqrt(variance)
    centre = sum(ratios["now"]) - sum(ratios["before"])
    low, high = centre - reach, centre + reach
    if is_share:  # two shares never differ by more than the whole
        low, high = max(low, -1.0), min(high, 1.0)
    return ChangeInterval(low, high, int(fewest))
