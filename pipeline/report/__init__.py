"""The frontier of a sweep: its figures as one Parquet file, and as one HTML page."""

from pipeline.report.cascade import cascade_rows
from pipeline.report.frontier import curve_rows, gate_row, oracle_rows, static_rows
from pipeline.report.images import Images, Picture, hardness, image_rows
from pipeline.report.page import render, write_page
from pipeline.report.results import (
    GATE,
    STATIC,
    About,
    Results,
    Row,
    read_results,
    write_results,
)

__all__ = [
    "GATE",
    "STATIC",
    "About",
    "Images",
    "Picture",
    "Results",
    "Row",
    "cascade_rows",
    "curve_rows",
    "gate_row",
    "hardness",
    "image_rows",
    "oracle_rows",
    "read_results",
    "render",
    "static_rows",
    "write_page",
    "write_results",
]
