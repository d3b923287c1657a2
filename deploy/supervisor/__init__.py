"""The supervisor of a site: it starts programs, watches them, restarts them and stops them.

In: programs and steps (`program`). Out: running child processes, and the state of the site in
`site.json`. Promise: a program that ends, falls silent or stops making progress is started again;
no child outlives the supervisor, not even one that was killed.

1. `program`: what to run, as data: `Program`, `Step`, `Watchdog`.
2. `healthcheck`: the outcome of a health check, and the check of one of our own processes.
3. `background`: one blocking call at a time, in a thread.
4. `runningstep`, `runningprogram`: a step and a program while the site runs.
5. `sitestate`: the state of the site on disk, and the lock of its folder.
6. `supervisor`: the loop that drives all of them.

Nothing here depends on the programs of a site: `deploy.stack.siteparts` builds the list.
"""

__all__: list[str] = []
