"""The console: a process's own page, health, readiness and metrics over HTTP.

In: frozen records of the process's state (`pipeline.status`) and queries of the results file. Out:
HTML, JSON and Prometheus text. Promise: it only reads, answers from memory or in a thread, and
shows no secret.

`server` is the only user of aiohttp; `pages` and `queries` make the JSON, `metrics` the exposition;
`web/` is what the browser gets.
"""

__all__: list[str] = []
