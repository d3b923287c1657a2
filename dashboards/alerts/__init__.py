"""Alert rules as code. Pure.

In: queries and limits. Out: rules in the two forms that Grafana accepts, for its API and for
provisioning files. Promise: each rule states what missing data and a failing query mean.

Files, in order: `alert` (the form of a rule), `rules` (the general rules). The rules of a task are
in its file in `dashboards.boards`.
"""

__all__: list[str] = []
