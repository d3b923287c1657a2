"""The starter students: how those that ship are made, and their cards.

In: data sets and recipes. Out: `models/zoo/` and the tables of docs/starter-students.md. Promise:
the official test sets are scored once, by choices made on held-out groups.

`build` makes them (`python -m training.starters`), `official` scores the test sets, `latency` times
a window, `cards` writes the tables.
"""

__all__: list[str] = []
