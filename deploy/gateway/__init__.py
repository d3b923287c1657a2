"""How kpstream gets onto a gateway, and from one version to the next.

In: a bundle (`kpstream-{version}-{machine}-py{XY}.tar`), a checkout, or a wheel with the file of
hashes beside it. Out: a running service. Promise: an interrupted step is finished or undone by the
next run, the state of the gateway is kept, and a version that does not become ready is replaced by
the one before it.

1. `install.sh` finds Python and the code, and calls `command`.
2. A `source` is copied to a folder of root's and verified there (`bundle`).
3. A **version** is a folder with an environment and the generated files of that version
   (`versions`). It appears under its name by one rename, when it is complete.
4. The link `current` says which version runs. `switching` moves it, waits for `/ready`, and moves
   it back if that does not come (`service` knows systemd and `/ready`).
5. `settingsfile` keeps `/etc/kpstream/gateway.env`, `broker` the configuration of mosquitto.
6. `files` writes units and configuration; it runs inside the version that they belong to.

```
/opt/kpstream/versions/0.3.0/venv/      Python environment       /etc/kpstream/gateway.env  settings
/opt/kpstream/versions/0.3.0/files/     units, configuration     /var/lib/kpstream/         state
/opt/kpstream/current -> versions/0.3.0                          /usr/local/bin/kpstream    wrapper
```

All modules but `files` use the standard library only, because they run before anything is
installed; a test proves it. A walk-through:

```python
from deploy.gateway.installer import Installer
from deploy.gateway.places import Places
from deploy.gateway.steps import Steps

installer = Installer(Places(Path("/")), Steps(print))
installer.install(Path("kpstream-0.3.0-aarch64-py311.tar"))
installer.rollback()
```
"""

__all__: list[str] = []
