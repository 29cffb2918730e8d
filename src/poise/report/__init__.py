"""Faces of a summary: terminal, markdown, HTML, tables. Computes no statistic."""
