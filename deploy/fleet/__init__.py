"""Many gateways over ssh: the same installer, on each host that needs it.

In: an inventory (TOML) of hosts with bundles and settings. Out: one line a host, with what was
done or why not. Promise: nothing is done twice, a pass that was interrupted is continued by the
next, and no word of the inventory reaches a shell unquoted.

1. `inventory` reads and checks the file; every name, address and setting has a narrow form.
2. `ssh` runs the OpenSSH client as a child process: no password is ever asked for, and an unknown
   or changed host key is refused. Settings travel over standard input, where no list of processes
   shows them.
3. `upload` brings a bundle to a host and goes on where an interrupted transfer ended.
4. `passes` looks at each host, decides, installs, and remembers what is done in a state file.

A walk-through:

```python
from deploy.fleet.inventory import read_inventory
from deploy.fleet.passes import Pass
from deploy.fleet.ssh import Ssh

inventory = read_inventory(Path("inventory.toml"))
for result in Pass(inventory, Ssh(), Path("inventory.state.json")).run(parallel=8):
    print(result.name, result.outcome, result.detail)
```
"""

__all__: list[str] = []
