"""The console: the page, health, readiness and metrics of a process over HTTP.

In: snapshots of the state of the process (`pipeline.status`) and queries of the results file. Out:
HTML, JSON and Prometheus text. Promise: it only reads, answers from memory or in a thread, and
shows no secret.

Files, in order: `queries` (of the results file), `cards` (the score of a device, by kind of
answer), `pages` (JSON), `fleet` (pages of a fleet of any size), `explaining` (explanations and raw
readings), `metrics` (Prometheus), `gate` (bounds on connections), `listener` (the only user of
aiohttp), `server` (what answers which path), `web/` (files for the browser, with one card per task
in `web/cards/`).
"""

__all__: list[str] = []
