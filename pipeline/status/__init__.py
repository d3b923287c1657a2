"""The report of a process about itself: the seam to the console, `/metrics` and the accounts.

In: counters and progress of the parts of a process. Out: records that do not change after they were
returned. Promise: everything here is pure; time comes in as `now_ms`, and nothing sleeps or blocks.
Counters only grow while a process runs. A restart may reset those that are not part of the
persisted window state.

Files: `counters` (readings per device and in sum), `progress` (consumer groups in their
partitions), `health` (alive, ready, problems), `view` (`GatewayView`, which every process
implements), `history` (recent samples for the charts).
"""

__all__: list[str] = []
