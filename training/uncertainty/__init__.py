"""Uncertainty: a student's estimate of its own error.

In: scores of held-out groups. Out: intervals, temperatures and the out-of-distribution guard, in
the manifest and in the graph. Promise: everything is fitted on engines or people that the student
has not learned from.

Files, in order: `calibration` (the mathematics), `tempered` (a temperature inside the graph),
`out_of_distribution` (the guard inside the graph), `fit` (all of it applied to a trained student),
`anchors` (what a gateway needs to place an activity by examples).
"""

__all__: list[str] = []
