"""`kpstream doctor`: checks that change nothing.

In: settings. Out: findings (`ok`, `warn`, `fail`), each with what to do. Promise: safe beside a
running gateway.

`command` runs the checks; `findings` is their form; `linechecks`, `machinechecks` and `tlschecks`
are the checks, `mqttprobe` asks the broker.
"""

__all__: list[str] = []
