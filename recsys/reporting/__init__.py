"""Readouts as pages: HTML, Markdown, terminal."""

from recsys.reporting.readout_page import html_page
from recsys.reporting.readout_text import markdown_page
from recsys.reporting.saving import log_report, write_report
from recsys.reporting.terminal import readout_tables

__all__ = ["html_page", "log_report", "markdown_page", "readout_tables", "write_report"]
