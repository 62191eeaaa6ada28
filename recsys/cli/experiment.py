"""`offers experiment`: plan, start, watch, stop and read out an experiment."""

from __future__ import annotations

import typer

from recsys.cli.readout import readout
from recsys.evaluation import experiment_lifecycle
from recsys.evaluation.experiment_off_policy import off_policy
from recsys.evaluation.experiment_power import power

application = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Plan, start, watch, stop and read out an experiment.",
)


@application.callback()
def experiment() -> None:
    """Plan, start, watch, stop and read out an experiment."""


application.command()(power)
application.command()(readout)
application.command()(off_policy)
application.command()(experiment_lifecycle.start)
application.command()(experiment_lifecycle.status)
application.command()(experiment_lifecycle.stop)
