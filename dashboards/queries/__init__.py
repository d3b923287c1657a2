"""Flux queries of boards and alerts. Pure.

In: tasks, and the measurements, tags and fields of `pipeline.points`. Out: `Query` objects.
Promise: a query that names a field or tag that is not stored cannot be built.

Files, in order: `flux` (text of a query, put together safely), `query` (a query with the shape of
its answer), `stages` (Flux that several queries share). Then the queries by subject: `choices`
(template variables), `scores` (every task), `numbers` and `classes` (the two kinds of answer),
`devices`, `processes`, `students`, `alerts`.
"""

__all__: list[str] = []
