"""The experiment ledger: does the teacher help, and against which control?

In: plans (`training/configs/bench-*.toml`) and data sets. Out: one line per run in
`docs/results/knowledge_pruning.jsonl`, tables and plots. Promise: every line can be made again from
its plan, and every claim is shown beside its controls.

Files, in order: `ledger` (the planned and the finished runs), `runs` (one run), `classical`,
`openvocab` and `unknown` (special kinds of run), `stats`, `report`, `openchapter` and `plots` (the
report), `command` (`python -m training.bench`). Forecasting students have plans
`bench-forecast-*.toml` and lines in `docs/results/forecast.jsonl`: `forecastplan`, `forecastruns`,
`published` (errors of the literature), `forecastreport` and `forecastplot`. Trials of forecasting
teachers, with a results file of their own: `llata`, `timellm`.
`anomalies` compares the anomaly score of forecast students with classical `detectors` (`python -m
training.bench.anomalies`).
"""

__all__: list[str] = []
