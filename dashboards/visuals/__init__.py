"""Parts of boards: panels, their views and styles, variables, annotations. Pure.

In: queries. Out: JSON for Grafana 12 and later. Promise: the id of a panel follows from its key, so
links stay valid when panels are added.

Files, in order: `limits` (limits of colours and alerts), `views` (panel types and styles),
`panels`, `links` (uids of boards), `variables`, `board`, `styles` (styles that boards share).
"""

__all__: list[str] = []
