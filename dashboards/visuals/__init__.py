"""What a board is made of: rows, panels, views, styles, limits. Pure.

In: queries. Out: the JSON of Grafana 12 and later. Promise: a panel's id follows from its key, so
links stay right.
"""

__all__: list[str] = []
