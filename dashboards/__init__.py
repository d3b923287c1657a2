"""Grafana boards and alerts as code: what a site shows, generated and pushed, never drawn by hand.

A gateway needs none of it: it has its own console page (`pipeline.console.server`). Boards read the
points of InfluxDB, whose measurement, tag and field names come from `pipeline.points.points` alone,
so that a board and a sink cannot disagree.

1. A **query** is Flux together with the shape of its answer (`queries`; put together by `flux` and
   `stages`; the queries themselves in `scorequeries`, `devicequeries`, `linequeries`,
   `historyqueries`, `alertqueries`).
2. A **panel** asks queries and says how the answer looks (`panels`, `views`, `looks`).
3. A **board** is rows of panels, variables and marks, with a uid that never changes (`boards`;
   `fleetboard`, `deviceboard`, `activityboard`, `modelboard`, `pipelineboard`, `accountboard`).
4. A **rule** watches a query and says what to do (`alerts`, `rules`; limits in `limits`).
5. A **site** is all of it for one site (`site`). It goes to Grafana through the API (`client`,
   `sync`) or as files (`provision`, written to `json/` and `provisioning/`), and to the reader as
   `docs/dashboards.md` (`page`).

All but `client`, `sync` and the writing of files is pure. A board from nothing:

```python
from dashboards.visuals.board import SITES_VARIABLE, Board, Row
from dashboards.queries.flux import Where, read
from dashboards.visuals.panels import Panel
from dashboards.grafana.provision import canonical
from dashboards.queries.query import per_series
from dashboards.visuals.views import Lines, Style
from pipeline.points.points import RUL

stages = [*read(RUL, ["rul"], Where.selected("site")), "last()"]
query = per_series("newest", stages, ("site", "device"))
style = Style("no scores", "suffix: cycles", name="${__field.labels.device}")
panel = Panel("newest", "Newest scores", "The last of every machine.", Lines(), style, [query])
board = Board("my-board", "Mine", "An example.", [Row("Now", [panel])], [SITES_VARIABLE])
print(canonical(board.json()))
```
"""

__all__: list[str] = []
