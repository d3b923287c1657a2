"""Grafana boards as code: what a site shows, generated and pushed, never drawn by hand.

A gateway needs none of it: it has its own console page (`pipeline.console`). Boards read the points
of InfluxDB, whose measurement, tag and field names come from `pipeline.points` alone, so that a
board and a sink cannot disagree. The package is empty until the site is: the folder is fixed in the
layout, and a walk-through comes with the first board.
"""

__all__: list[str] = []
