"""The backtest as figures."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recsys.backtesting.cart_completion import CartCompletion
from recsys.backtesting.cart_task import LineKind
from recsys.backtesting.results import Backtest, CutoffResult, MethodKind
from recsys.evaluation.offline.calibration import Calibration

METHOD_COLOURS: dict[MethodKind, str] = {"baseline": "#9aa5b1", "raw": "#1f6feb", "served": "#0b3d91"}
KIND_MARKS: dict[LineKind, str] = {"new": "o", "repeat": "s", "unknown": "x"}
_JUDGED, NOT_JUDGED = "#1f6feb", "#9aa5b1"
DPI = 130
CHARACTERS_AN_INCH = 9


def write_plots(backtest: Backtest, folder: Path) -> tuple[Path, ...]:
    """Write every figure as PNG and return the paths: NDCG by method, coverage, calibration, carts."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [
        _save(ndcg_figure(backtest), folder / "ndcg.png"),
        _save(coverage_figure(backtest), folder / "coverage.png"),
    ]
    cross_sell = [(result, result.calibration) for result in backtest.cutoffs if result.calibration is not None]
    upsell = [(result, result.upsell.calibration) for result in backtest.cutoffs if result.upsell is not None]
    for name, calibrations in (("cross_sell", cross_sell), ("upsell", upsell)):
        if calibrations:
            written.append(_save(calibration_figure(calibrations, name), folder / f"calibration_{name}.png"))
    carts = [(result, result.carts) for result in backtest.cutoffs if result.carts is not None]
    if carts:
        written.append(_save(carts_figure(carts), folder / "carts.png"))
    return tuple(written)


def ndcg_figure(backtest: Backtest) -> Figure:
    """Return one panel a cutoff: mean NDCG with its interval, a bar a method."""
    n = len(backtest.cutoffs)
    figure, panels = _figure(n, n_rows=len(backtest.cutoffs[0].methods))
    for panel, result in zip(panels, backtest.cutoffs, strict=True):
        _draw_ndcg(panel, result)
    _entitle(
        figure, f"NDCG@{backtest.config['k']} on novel products, 95 % intervals over accounts; dotted: best baseline"
    )
    return figure


def coverage_figure(backtest: Backtest) -> Figure:
    """Return NDCG against coverage, one panel a cutoff: what a method wins in rank and what it leaves unsold."""
    n = len(backtest.cutoffs)
    columns = 2 if n == 1 else 4
    figure, panels = _figure(n, n_rows=14 + len(backtest.cutoffs[0].methods) // columns)
    for panel, result in zip(panels, backtest.cutoffs, strict=True):
        _draw_coverage(panel, result)
    panels[0].set(ylabel=f"NDCG@{backtest.config['k']}", xlim=(0, None), ylim=(0, None))
    _entitle(figure, "What a method wins in rank and what it leaves unsold")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=8)
    return figure


def calibration_figure(calibrations: list[tuple[CutoffResult, Calibration]], name: str) -> Figure:
    """Return one panel a cutoff: observed over expected by probability, the accepted band shaded."""
    figure, panels = _figure(len(calibrations), n_rows=12)
    for panel, (result, calibration) in zip(panels, calibrations, strict=True):
        _draw_calibration(panel, calibration)
        panel.set_title(f"{result.cutoff:%Y-%m-%d}")
    panels[0].set_ylabel("observed / expected")
    _entitle(figure, f"Calibration of {name.replace('_', '-')}: grey bins have too few positives to judge")
    return figure


def carts_figure(carts: list[tuple[CutoffResult, CartCompletion]]) -> Figure:
    """Return one panel a cutoff: hit rate of each cart method with its interval, lines of each kind as marks."""
    figure, panels = _figure(len(carts), n_rows=len(carts[0][1].methods) + 2)
    for panel, (result, found) in zip(panels, carts, strict=True):
        _draw_carts(panel, found)
        panel.set_title(f"{result.cutoff:%Y-%m-%d}, {found.n_carts:,} carts")
    _entitle(figure, f"Carts completed: the hidden line among the first {carts[0][1].k}, 95 % intervals over carts")
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _draw_carts(panel: Axes, found: CartCompletion) -> None:
    methods = found.methods[::-1]
    places = np.arange(len(methods))
    values = np.array([one.hit_rate.estimate for one in methods])
    low, high = (np.array([getattr(one.hit_rate, end) for one in methods]) for end in ("low", "high"))
    colours = [METHOD_COLOURS["served" if one.name.startswith("engine") else "baseline"] for one in methods]
    panel.barh(places, values, xerr=[values - low, high - values], color=colours, ecolor="#333333")
    for kind in found.n_by_kind:
        rates = [one.by_kind[kind] for one in methods]
        panel.scatter(rates, places, marker=KIND_MARKS[kind], color="#d97706", s=22, zorder=3, label=f"{kind} lines")
    panel.set_yticks(places, [one.name for one in methods], fontsize=8)
    panel.set_xlabel("hit rate")
    panel.grid(axis="x", alpha=0.3)


def _draw_ndcg(panel: Axes, result: CutoffResult) -> None:
    methods = result.methods[::-1]
    places = np.arange(len(methods))
    values = np.array([method.ndcg for method in methods])
    low = values - [method.ndcg_interval.low for method in methods]
    high = np.array([method.ndcg_interval.high for method in methods]) - values
    panel.barh(
        places, values, xerr=[low, high], color=[METHOD_COLOURS[method.kind] for method in methods], ecolor="#333333"
    )
    panel.set_yticks(places, [method.name for method in methods], fontsize=8)
    panel.axvline(result.best_baseline.ndcg, color="#333333", linestyle=":", linewidth=1)
    panel.set_title(f"{result.cutoff:%Y-%m-%d}, {len(result.accounts):,} accounts")
    panel.set_xlabel("NDCG")
    panel.grid(axis="x", alpha=0.3)


def _draw_coverage(panel: Axes, result: CutoffResult) -> None:
    for number, method in enumerate(result.methods, start=1):
        point = (100 * method.coverage, method.ndcg)
        panel.scatter(*point, color=METHOD_COLOURS[method.kind], s=36, zorder=2, label=f"{number}  {method.name}")
        panel.annotate(str(number), point, (5, 3), textcoords="offset points", fontsize=8)
    panel.set(title=f"{result.cutoff:%Y-%m-%d}", xlabel="active catalogue offered, %")
    panel.grid(alpha=0.3)


def _draw_calibration(panel: Axes, calibration: Calibration) -> None:
    bins = [one for one in calibration.bins if one.expected > 0]
    middle = [max(one.expected / one.n, 1e-6) for one in bins]
    panel.axhspan(0.85, 1.15, color="#1f6feb", alpha=0.12)
    panel.axhline(1.0, color="#333333", linewidth=1)
    for one, x in zip(bins, middle, strict=True):
        error = np.sqrt(one.observed) / one.expected if one.error is None else one.error
        colour = _JUDGED if one.judged else NOT_JUDGED
        marker = "o" if one.listed else "s"
        panel.errorbar(x, one.ratio, yerr=error, color=colour, marker=marker, capsize=2)
    panel.set_xscale("log")
    panel.set_xlabel("probability (square: all pairs not listed)")
    panel.grid(alpha=0.3)


def _figure(n_panels: int, n_rows: int) -> tuple[Figure, list[Axes]]:
    """Return a figure and its panels, side by side."""
    figure = Figure(figsize=(4.6 * n_panels + 1.2, max(3.6, 0.3 * n_rows + 1.2)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, n_panels, squeeze=False, sharex=True, sharey=True)[0])


def _entitle(figure: Figure, title: str) -> None:
    """Write a title above all panels, broken where the figure ends."""
    figure.suptitle(fill(title, int(figure.get_figwidth() * CHARACTERS_AN_INCH)))


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI)
    return path
