"""What a student knows of its own uncertainty.

In: scores of held-out groups. Out: intervals, temperatures and the out-of-distribution guard, in
the manifest and in the graph. Promise: everything is fitted on engines or people the student has
not learned from.

`calibration` is the mathematics, `out_of_distribution` the distance inside the graph, `fit` brings
both to a trained student.
"""

__all__: list[str] = []
