"""`kpstream doctor`: checks that change nothing.

In: settings. Out: findings (`ok`, `warn`, `fail`), each with advice. Promise: safe beside a running
gateway.

1. `command`: runs the checks and prints the findings.
2. `findings`: a finding, and the definition of a check.
3. `pipelinechecks`, `machinechecks`, `tlschecks`: the checks.
4. `mqttprobe`: a connection to the broker for the checks.
"""

__all__: list[str] = []
