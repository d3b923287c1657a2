"""Processes and commands: where the parts are put together, once per process.

1. `gateway` is one process: bridge, scoring, stores, console page. `view` is what it tells of
   itself; `settings` where it keeps its state.
2. `cli` is the command `kpstream`; each command lives in a file of its own and imports what it
   needs when it is called: `gatewaycmd` (gateway, simulate), `demo`, `replaycmd`, `deadletters`,
   `modelscmd`, `doctor` (with `findings`, `linechecks`, `machinechecks`, `mqttprobe`).
3. `settingsdoc` writes docs/settings.md from the settings classes.

A walk-through:

```python
from deploy.processes.gateway import Gateway
from deploy.settings.settings import GatewaySettings
from ingest.settings import IngestSettings
from pipeline.settings import PipelineSettings

gateway = Gateway(GatewaySettings(), IngestSettings(), PipelineSettings())
await gateway.start()        # stores, scoring, bridge: from the end of the line to its beginning
await gateway.wait()         # returns only by raising: a part that gave up
await gateway.stop()         # the line runs dry, a checkpoint, the files are closed
```

`deploy` may import every package but `training`.
"""

__all__: list[str] = []
