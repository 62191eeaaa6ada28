"""The table that a readout needs: one row a unit, its arm, its values; checked, capped and summed in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol

import ibis
from ibis.backends.duckdb import Backend

from recsys.arrays import FloatArray
from recsys.contracts.columns import SOURCE_ROW
from recsys.data.numbers import as_text
from recsys.errors import EmptyDataError, ReadoutError
from recsys.evaluation.readout.design import refuse_blanks, refuse_missing, refuse_values_as_segments
from recsys.evaluation.readout.faults.column_values import as_value, refuse_no_yes_or_no, refuse_unread
from recsys.evaluation.readout.faults.copies import Copies, copies_of, refuse_several_rows
from recsys.evaluation.statistics.column_facts import ColumnFacts, column_facts, refuse_too_large
from recsys.evaluation.statistics.covariates import fill_missing
from recsys.evaluation.statistics.moments import Moments, cluster_sums, moments_of_groups, summed

UNIT = "__unit"
ARM = "__arm"
EXPOSED = "__exposed"
CLUSTER_ID = "__cluster"
ROWS = "__rows"


class Mixed(NamedTuple):
    """Ids of what stood in several arms; it is left out.

    Attributes:
        units: the units.
        clusters: clusters that did without those units, too.
        assigned: what was assigned: the units, or all their clusters.
    """

    units: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    assigned: tuple[str, ...] = ()


NOTHING_MIXED: Final = Mixed()


class CountedUnits(Protocol):
    """How many units there are in each arm: of a table, or as sums say."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms in the data, sorted."""

    @property
    def mixed(self) -> Mixed:
        """What stood in several arms."""

    @property
    def has_ids(self) -> bool:
        """Whether units have ids."""

    @property
    def has_exposed(self) -> bool:
        """Whether it is known which units were exposed."""

    def counts(self) -> dict[str, int]:
        """Return the number of assigned units by arm."""

    def unit_counts(self) -> dict[str, int]:
        """Return the number of units by arm, clustered or not."""

    def exposed_counts(self) -> dict[str, int]:
        """Return the number of exposed units by arm."""

    def segment_counts(self, segment: str) -> dict[str, dict[str, int]]:
        """Return the number of units by level and arm."""


@dataclass(frozen=True)
class UnitTable:
    """One row a unit, in a DuckDB of its own.

    Attributes:
        connection: where it lies.
        table: columns `UNIT`, `ARM`, the values as doubles, the segments as text, `EXPOSED` where it is known.
        values: names of the columns of values.
        segments: names of the columns of segments.
        arms: the arms in the data, sorted.
        has_ids: whether units have ids; without them every row is taken as a unit of its own.
        has_exposed: whether it is known which units were exposed.
        facts: of each column of values.
        notes: sentences about the data that a reader of the report must know.
        cluster: name of the column by which arms were assigned, where that is not the unit; `CLUSTER_ID` in `table`.
        mixed: what stood in several arms; it is not in `table`.
        copies: rows that repeat another; None where every unit has one row.
    """

    connection: Backend
    table: ibis.Table
    values: tuple[str, ...]
    segments: tuple[str, ...]
    arms: tuple[str, ...]
    has_ids: bool
    has_exposed: bool
    facts: Mapping[str, ColumnFacts]
    notes: tuple[str, ...] = field(default=())
    cluster: str | None = None
    mixed: Mixed = NOTHING_MIXED
    copies: Copies | None = None

    def capped(self, quantiles: Mapping[str, float]) -> tuple[UnitTable, dict[str, float]]:
        """Return the table with large values of each column set to its cap, and the caps.

        The cap is the quantile of the values above zero of all arms together: with 99 % of zeros the percentile of
        all units would be zero.
        """
        if not quantiles:
            return self, {}
        table = self.table
        asked = {name: table[name].quantile(at, where=table[name] > 0).name(name) for name, at in quantiles.items()}
        found = table.aggregate(**asked).to_pyarrow().to_pylist()[0]
        caps = {name: float(value) for name, value in found.items() if value is not None}
        cut = {name: ibis.least(table[name], cap) for name, cap in caps.items()}
        return replace(self, table=table.mutate(**cut)), caps

    def exposed_only(self) -> UnitTable:
        """Return the units that were exposed."""
        return replace(self, table=self.table.filter(self.table[EXPOSED]))

    def moments(self, columns: Sequence[str] | None = None) -> Moments:
        """Return the moments of `columns` (default: all) by arm: leading axis `(n_arms,)` in the order of `arms`."""
        named = columns or self.values
        if self.cluster is not None:
            return moments_of_groups(named, [self.rows(arm, named) for arm in self.arms])
        return summed(self.table, named, (ARM, self.arms))

    def rows(self, arm: str, columns: Sequence[str]) -> dict[str, FloatArray]:
        """Return the values of one arm's units, or their sums by cluster, each column of shape `(n_units,)`."""
        own = self.table.filter(self.table[ARM] == arm)
        if self.cluster is not None:
            return cluster_sums(own, columns, CLUSTER_ID)
        found = own.select(*columns).to_pyarrow()
        return {name: found.column(name).to_numpy() for name in columns}

    def moments_by(self, segment: str, columns: Sequence[str]) -> dict[str, Moments]:
        """Return the moments by arm for each level of a segment."""
        table = self.table
        levels = [str(row[segment]) for row in table.select(segment).distinct().to_pyarrow().to_pylist()]
        return {
            level: replace(self, table=table.filter(table[segment] == level)).moments(columns)
            for level in sorted(levels)
        }

    def counts(self) -> dict[str, int]:
        """Return the number of assigned units by arm: of clusters where those were assigned."""
        return self._counted(self.table)

    def unit_counts(self) -> dict[str, int]:
        """Return the number of units by arm, clustered or not."""
        return replace(self, cluster=None).counts()

    def exposed_counts(self) -> dict[str, int]:
        """Return the number of exposed units by arm, or of clusters with one."""
        return self._counted(self.table.filter(self.table[EXPOSED]))

    def segment_counts(self, segment: str) -> dict[str, dict[str, int]]:
        """Return the number of units by level and arm, or of clusters that have some."""
        rows = self.table.group_by([segment, ARM]).agg(n=self._number()).to_pyarrow().to_pylist()
        found: dict[str, dict[str, int]] = {}
        for row in sorted(rows, key=lambda row: (str(row[segment]), row[ARM])):
            found.setdefault(str(row[segment]), dict.fromkeys(self.arms, 0))[row[ARM]] = row["n"]
        return found

    def _counted(self, table: ibis.Table) -> dict[str, int]:
        rows = table.group_by(ARM).agg(n=self._number()).to_pyarrow().to_pylist()
        return dict.fromkeys(self.arms, 0) | {row[ARM]: row["n"] for row in rows}

    def _number(self) -> ibis.Deferred:
        """Of what was assigned."""
        return ibis._.count() if self.cluster is None else ibis._[CLUSTER_ID].nunique()


def unit_table(
    connection: Backend,
    source: ibis.Table,
    *,
    unit: str | None,
    arm: str,
    values: Sequence[str],
    segments: Sequence[str] = (),
    exposed: str | None = None,
    past: Sequence[str] = (),
    yes_or_no: Sequence[str] = (),
    aggregate: bool = False,
    cluster: str | None = None,
) -> UnitTable:
    """Return the checked table of units.

    Args:
        connection: DuckDB that holds `source`.
        source: rows as they were read.
        unit: column of the account or visitor; None takes every row as a unit of its own.
        arm: column of the arm.
        values: columns of outcomes and covariates.
        segments: columns by which the primary metric is split.
        exposed: column of 0 and 1: whether the unit met the treatment, or would have.
        past: which of `values` are from before the start; missing ones are set to the mean.
        yes_or_no: which of `values`, where they are 0 and 1, say whether something happened: with several rows a unit
            has 1 where any row has.
        aggregate: add up several rows of one unit, instead of refusing them; `past` is averaged.
        cluster: column by which arms were assigned, where that is not the unit.

    Raises:
        MissingColumnError: a column is not there.
        EmptyDataError: no row.
        ReadoutError: a value is no number, missing or too large, a unit has several rows, a segment is a value, or
            many clusters stand in several arms.
    """
    refuse_missing(source, [arm, *values, *segments, *(name for name in (unit, exposed, cluster) if name)])
    refuse_values_as_segments(values, segments)
    picked = _picked(source, unit or SOURCE_ROW, arm, values, segments, exposed, cluster)
    stored = connection.create_table("readout_units", picked, overwrite=True)
    refuse_unread(source, past)
    stored, filled = fill_missing(stored, past, ARM)
    _refuse_blanks(stored, source, unit or SOURCE_ROW, arm, values)
    whole = stored
    apart, stored = _without_mixed(connection, stored)
    copies = _copies(source, stored, (unit or SOURCE_ROW, arm), aggregate=aggregate)
    table, notes = _one_row_a_unit(connection, stored, values, past, yes_or_no) if copies else (stored, ())
    notes, mixed = filled + notes, Mixed(apart, assigned=apart)
    if cluster is not None:
        clusters, table, said = _without_mixed_clusters(connection, table, cluster)
        mixed = Mixed(apart, clusters, tuple(sorted({*clusters, *_clusters_of(whole, apart)})))
        notes += said
    arms = tuple(sorted(row[ARM] for row in table.select(ARM).distinct().to_pyarrow().to_pylist()))
    if not arms:
        raise EmptyDataError("0 units in one arm each, must be more; is every unit in several arms?")
    facts = column_facts(table, values)
    refuse_too_large(facts)
    notes += tuple(
        f"{facts[name].n_negative:,} units have a {name} below zero (refunds above purchases?); they count as they are"
        for name in values
        if facts[name].n_negative
    )
    if unit is None:
        notes += ("every row is taken as a unit of its own; name the unit's column to check that",)
    return UnitTable(
        connection=connection,
        table=table,
        values=tuple(values),
        segments=tuple(segments),
        arms=arms,
        has_ids=unit is not None,
        has_exposed=exposed is not None,
        facts=facts,
        notes=notes,
        cluster=cluster,
        mixed=mixed,
        copies=copies,
    )


def _picked(
    source: ibis.Table,
    unit: str,
    arm: str,
    values: Sequence[str],
    segments: Sequence[str],
    exposed: str | None,
    cluster: str | None,
) -> ibis.Table:
    columns = {UNIT: as_text(source[unit]), ARM: as_text(source[arm])}
    columns |= {name: as_value(source[name]) for name in values}
    columns |= {name: source[name].cast("string").fill_null("(none)") for name in segments}
    if exposed is not None:
        refuse_no_yes_or_no(source, exposed)
        columns[EXPOSED] = as_value(source[exposed]) == 1
    if cluster is not None:
        columns[CLUSTER_ID] = as_text(source[cluster])
        refuse_blanks(int(columns[CLUSTER_ID].isnull().sum().to_pyarrow().as_py() or 0), cluster)
    return source.select(**columns)


def _refuse_blanks(stored: ibis.Table, source: ibis.Table, unit: str, arm: str, values: Sequence[str]) -> None:
    asked = {"rows": stored.count(), "unit": stored[UNIT].isnull().sum(), "arm": stored[ARM].isnull().sum()}
    asked |= {f"v{i}": (stored[name].isnull() | stored[name].isnan()).sum() for i, name in enumerate(values)}
    asked |= {f"i{i}": stored[name].isinf().sum() for i, name in enumerate(values)}
    found = stored.aggregate(**asked).to_pyarrow().to_pylist()[0]
    if found["rows"] == 0:
        raise EmptyDataError("0 rows of data, must be one a unit; export it again")
    for key, name in (("unit", unit), ("arm", arm)):
        refuse_blanks(found[key], name)
    for i, name in enumerate(values):
        if found[f"v{i}"]:
            kind = "no number" if source[name].type().is_string() else "no value"
            raise ReadoutError(
                f"{found[f'v{i}']:,} rows have {kind} in {name!r}, all must have one; "
                f"a unit to which nothing happened has 0, not a blank{_blank_arms(stored, name)}"
            )
        if found[f"i{i}"]:
            raise ReadoutError(
                f"{found[f'i{i}']:,} rows are infinite in {name!r}, all must be finite; is it a ratio with 0 below? "
                "name its two columns instead"
            )


def _blank_arms(stored: ibis.Table, name: str) -> str:
    """Which arms have no value at all: the metric is then present in the others only."""
    blank = (stored[name].isnull() | stored[name].isnan()).mean()
    rows = stored.group_by(ARM).agg(blank=blank).order_by(ARM).to_pyarrow().to_pylist()
    whole = [row[ARM] for row in rows if row["blank"] == 1]
    return f"; {', '.join(whole)} has none at all: was it measured there?" if 0 < len(whole) < len(rows) else ""


def _copies(source: ibis.Table, stored: ibis.Table, identity: tuple[str, str], *, aggregate: bool) -> Copies | None:
    """Rows that repeat another, where units have several; None where each has one."""
    n_rows, n_units = _rows_and_units(stored)
    if n_rows == n_units:
        return None
    copies = copies_of(source, identity)
    if not aggregate:
        refuse_several_rows(copies, n_rows, n_units)
    return copies


def _one_row_a_unit(
    connection: Backend, table: ibis.Table, values: Sequence[str], past: Sequence[str], yes_or_no: Sequence[str]
) -> tuple[ibis.Table, tuple[str, ...]]:
    """One row for each unit, and what was done for that."""
    n_rows, n_units = _rows_and_units(table)
    facts = column_facts(table, yes_or_no)
    any_of = [name for name, found in facts.items() if found.is_binary and not found.is_constant]
    others = [name for name in table.columns if name not in {UNIT, ARM, *values}]
    # What was before the start stands on every row of a unit alike: added up it would count the rows.
    one_a_unit = {name: table[name].mean() if name in past else table[name].sum() for name in values}
    one_a_unit |= {name: table[name].max() for name in any_of}
    one_a_unit |= {name: table[name].max() for name in others} | {ROWS: table.count().cast("float64")}
    added = table.group_by([UNIT, ARM]).agg(**one_a_unit)
    notes = [f"{n_rows:,} rows were added up to {n_units:,} units"]
    notes += [
        f"{name} is yes or no on every row and is not added up: a unit has 1 where any of its rows has; to count the "
        "rows, divide it by a count"
        for name in any_of
    ]
    return connection.create_table("readout_summed", added.order_by(UNIT), overwrite=True), tuple(notes)


def _rows_and_units(table: ibis.Table) -> tuple[int, int]:
    found = table.aggregate(rows=table.count(), units=table[UNIT].nunique()).to_pyarrow().to_pylist()[0]
    return found["rows"], found["units"]


def _without_mixed(connection: Backend, stored: ibis.Table) -> tuple[tuple[str, ...], ibis.Table]:
    """The units in several arms, and the rows of the others."""
    n_rows, n_units = _rows_and_units(stored)
    if n_rows == n_units:
        return (), stored
    several = stored.group_by(UNIT).agg(low=stored[ARM].min(), high=stored[ARM].max())
    several = several.filter(several["low"] != several["high"])
    mixed = tuple(sorted(several[UNIT].to_pyarrow().to_pylist()))
    if not mixed:
        return (), stored
    kept = stored.anti_join(several, UNIT)
    return mixed, connection.create_table("readout_unmixed", kept.order_by(UNIT), overwrite=True)


def _clusters_of(table: ibis.Table, units: Sequence[str]) -> list[str]:
    found: list[str] = table.filter(table[UNIT].isin(units))[CLUSTER_ID].to_pyarrow().to_pylist() if units else []
    return found


_MOST_MIXED_CLUSTERS = 0.01
"""Above this share the arms were not assigned by the cluster."""


def _without_mixed_clusters(
    connection: Backend, table: ibis.Table, cluster: str
) -> tuple[tuple[str, ...], ibis.Table, tuple[str, ...]]:
    """The clusters in several arms, the rows of the others, and what clusters there are."""
    arms = table.group_by(CLUSTER_ID).agg(low=table[ARM].min(), high=table[ARM].max(), n=table.count())
    found = arms.aggregate(n=arms.count(), rows=arms["n"].sum(), mixed=(arms["low"] != arms["high"]).sum())
    counts = found.to_pyarrow().to_pylist()[0]
    n_clusters, n_mixed = counts["n"], int(counts["mixed"])
    if n_mixed > _MOST_MIXED_CLUSTERS * n_clusters:
        raise ReadoutError(
            f"{n_mixed:,} of {n_clusters:,} {cluster} stand in several arms, each must stand in one; name the column "
            "by which the arms were assigned, or none where each unit was assigned by itself"
        )
    note = f"assigned and judged by {cluster}: {counts['rows']:,} units in {n_clusters:,}"
    if n_mixed == 0:
        return (), table, (note,)
    several = arms.filter(arms["low"] != arms["high"]).order_by(CLUSTER_ID)
    mixed = tuple(several[CLUSTER_ID].to_pyarrow().to_pylist())
    kept = table.anti_join(several, CLUSTER_ID).order_by(UNIT)
    return mixed, connection.create_table("readout_clustered", kept, overwrite=True), (note,)
