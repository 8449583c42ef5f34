"""Tables and the self-contained page, made from records alone."""

from picojoule.report.figure import write_figure
from picojoule.report.load import read_records
from picojoule.report.measurement_csv import measurement_csv
from picojoule.report.measurement_files import write_measurement
from picojoule.report.measurement_markdown import measurement_markdown
from picojoule.report.measurement_text import conversion_text, measurement_text
from picojoule.report.page import write_page
from picojoule.report.table import markdown_table, penalty_table, text_table, update_tables

__all__ = [
    "conversion_text",
    "markdown_table",
    "measurement_csv",
    "measurement_markdown",
    "measurement_text",
    "penalty_table",
    "read_records",
    "text_table",
    "update_tables",
    "write_figure",
    "write_measurement",
    "write_page",
]
