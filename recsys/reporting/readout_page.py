"""The readout as one HTML file: no request leaves it, it reads on a phone and prints."""

from __future__ import annotations

from functools import partial

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from recsys.evaluation.readout.results import Readout
from recsys.reporting import formatting as wording
from recsys.reporting import readout_charts as charts


def html_page(readout: Readout) -> str:
    """Return the page; equal readouts give equal bytes."""
    environment = Environment(
        loader=PackageLoader("recsys.reporting"),
        autoescape=select_autoescape(("jinja",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": wording.number,
        "signed": partial(wording.number, signed=True),
        "percent": wording.percent,
        "share": partial(wording.percent, signed=False),
        "p": wording.p_text,
        "relative": wording.relative_interval,
    }
    arms = [verdict.arm for verdict in readout.verdict.arms]
    return environment.get_template("readout.html.jinja").render(
        r=readout,
        interval=wording.interval,
        has_margins=any(effect.margin is not None for effect in readout.effects),
        by_status={
            status: [check for check in readout.health if check.status == status]
            for status in ("failed", "warning", "passed", "not_checked")
        },
        forest=Markup(charts.forest(readout.effects, arms)),  # noqa: S704 (our own SVG, its texts escaped)
        waterfalls=[(found.arm, Markup(charts.waterfall(found))) for found in readout.decompositions],  # noqa: S704
        cumulative=[
            (arm, Markup(charts.cumulative([look for look in readout.looks if look.arm == arm])))  # noqa: S704
            for arm in arms
            if readout.looks
        ],
        novelty=[(found, Markup(charts.novelty_chart(found))) for found in readout.novelty],  # noqa: S704
        histogram=Markup(  # noqa: S704
            charts.histogram_chart(readout.histogram, arms, readout.control) if readout.histogram else ""
        ),
        segments=Markup(charts.segments_chart(readout.segments, arms)),  # noqa: S704
    )
