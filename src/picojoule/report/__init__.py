"""Tables and the self-contained page, made from records alone."""

from picojoule.report.load import read_records
from picojoule.report.measurement import measurement_table
from picojoule.report.page import write_page
from picojoule.report.table import markdown_table, text_table, update_tables

__all__ = ["markdown_table", "measurement_table", "read_records", "text_table", "update_tables", "write_page"]
