"""`make bench-peers`: the same work for this product, for itself at an earlier revision, and for
its peers.

1. `workloads` says what is sent: two workloads, their devices, messages and windows. Pure.
2. `load` publishes it over raw MQTT from a process of its own.
3. `programs/` are the peers as a user would write them. They run in environments of their own,
   which `environments` makes from PyPI, and import nothing of this product.
4. `gateways` with `lives`, `sites`, `rivals` and `externals` start a candidate, load it and return
   its figures. Every score is compared with ONNX Runtime run offline (`reference`) before its time
   counts.
5. `plan` lists the runs of a benchmark, interleaved, so that candidates meet the same machine;
   `journal` keeps finished runs in a file, so that an interrupted benchmark continues.
6. `table` makes medians, ratios and targets of the runs, and `page` writes docs/results/peers.md.

CPU is user and system time of all threads of the measured processes, from /proc. A run that lost
or invented a score has no time.
"""
