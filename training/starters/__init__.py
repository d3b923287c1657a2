"""Starter students: build the shipped students and their cards.

In: data sets and recipes. Out: `models/zoo/` and the tables of docs/starter-students.md. Promise:
the official test sets are scored once, after all choices were made on held-out groups.

Files, in order: `latency` (time per window), `official` (measures on the test set), `cards` (the
tables), `forecasts` (the student that forecasts), `learned` (what manifests
tell about the data), `build` (`python -m training.starters`, which
makes the students), and `transformerfit` (the numbers of the simulated transformers).
"""

__all__: list[str] = []
