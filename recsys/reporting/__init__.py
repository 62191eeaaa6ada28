"""Readouts as pages: HTML, Markdown, terminal."""

from recsys.reporting.readout_page import html_page, log_report, write_report
from recsys.reporting.readout_text import markdown_page, readout_tables

__all__ = ["html_page", "log_report", "markdown_page", "readout_tables", "write_report"]
