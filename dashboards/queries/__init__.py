"""Queries: Flux together with the shape of its answer. Pure.

In: names of measurements, tags and fields from `pipeline.points`. Out: `Query` objects. Promise: a
query cannot name a field that is not stored.

`query` and `flux` are the forms, `stages` what several share; the others are the queries by
subject.
"""

__all__: list[str] = []
