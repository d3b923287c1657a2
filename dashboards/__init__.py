"""Grafana boards and alerts as code: generated and pushed, never edited in Grafana.

In: tasks, limits, and the measurements that `pipeline` stores in InfluxDB. Out: boards and alert
rules in Grafana, by its API or as provisioning files. Promise: a query that names a field that is
not stored cannot be built, and a second push changes nothing.

A gateway needs no Grafana, because it serves its own console (`pipeline.console.server`).

1. A **query** is Flux together with the shape of its answer (`queries`).
2. A **panel** draws the answers of queries (`visuals`).
3. An alert **rule** watches a query and gives an operator instructions (`alerts`).
4. A **board** is rows of panels with template variables (`boards`). Each task has its file there,
   with its panels, its board and its alert rules, and one line in `boards.registry`.
5. **SiteDashboards** holds all boards and rules of one site (`site`). It reaches Grafana through
   the API or as files (`grafana`, written to `json/` and `provisioning/`), and the reader as
   `docs/dashboards.md` (`page`).

Imports run one way: `page`, `grafana`, `settings`, `site`, `boards`, `alerts`, `visuals`,
`queries`; everything may import `errors`. Everything is pure except `grafana.client`,
`grafana.sync` and the writing of files.

A board from scratch:

```python
from dashboards.grafana.provision import canonical
from dashboards.queries.flux import Where, read
from pipeline.points.measurements import score_measurement
from dashboards.queries.query import per_series
from dashboards.visuals.board import Board, Row
from dashboards.visuals.panels import Panel
from dashboards.visuals.variables import sites_variable
from dashboards.visuals.views import Lines, Style
from models.tasks.rul import RUL

stages = [*read(score_measurement(RUL), ["rul"], Where.selected("site")), "last()"]
query = per_series("newest", stages, ("site", "device"))
style = Style("no scores", "suffix: cycles", name="${__field.labels.device}")
panel = Panel("newest", "Newest scores", "The last of every machine.", Lines(), style, [query])
board = Board("my-board", "Mine", "An example.", [Row("Now", [panel])], [sites_variable([RUL])])
print(canonical(board.json()))
```
"""

__all__: list[str] = []
