"""Readouts as pages: HTML, Markdown, terminal."""
