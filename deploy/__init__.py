"""Processes and commands: the parts of the pipeline, composed once per process.

In: settings and command lines. Out: running processes, exit codes, and messages that say what to
do next. Promise: composition only; a reading never passes through code of this package.

The folders, from top to bottom; each imports only from those below it:

1. `cli`: the command `kpstream`; it imports a command's module when the command is called.
2. `commands`: one file per command. `doctor`: the checks of `kpstream doctor`.
3. `processes`: a gateway, and the runtime of a site's bridge, worker and store.
4. `fleet`: installs many gateways over ssh. `gateway`: the installer of one, and its files.
5. `stack`: the servers of a site, its topics, certificates, units and parts.
6. `supervisor`: starts, watches and restarts the programs of a site.
7. `settings`: the settings of gateway and site, their errors, and the page docs/settings.md.

A walk-through:

```python
from deploy.processes.gateway import Gateway
from deploy.settings.settings import GatewaySettings
from ingest.settings import IngestSettings
from pipeline.settings import PipelineSettings

gateway = Gateway(GatewaySettings(), IngestSettings(), PipelineSettings())
await gateway.start()        # stores, scoring, bridge: from the end of the pipeline to its start
await gateway.wait()         # raises when a part has failed
await gateway.stop()         # drains the pipeline, writes a checkpoint, closes the files
```

`deploy` may import every package except `training`.
"""

__all__: list[str] = []
