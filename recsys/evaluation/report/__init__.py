"""Readouts as pages: HTML, Markdown, terminal."""

from recsys.evaluation.report.markdown import markdown_page
from recsys.evaluation.report.page import html_page
from recsys.evaluation.report.saving import log_report, write_report
from recsys.evaluation.report.terminal import readout_tables

__all__ = ["html_page", "log_report", "markdown_page", "readout_tables", "write_report"]
