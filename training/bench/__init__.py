"""The experiment ledger: does the teacher help, and against which control?

In: plans (`training/configs/bench-*.toml`) and data sets. Out: one line per run in
`docs/results/knowledge_pruning.jsonl`, tables and plots. Promise: a line says how to make it again,
and every claim stands beside its controls.

`ledger` says which runs there are; `runs` does one, `classical`, `openvocab` and `unknown` are
special kinds of run; `report`, `openchapter`, `stats` and `plots` write the report; `command` is
`python -m training.bench`.
"""

__all__: list[str] = []
