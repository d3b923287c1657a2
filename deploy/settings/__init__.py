"""Settings of gateway and site, their documentation and their errors.

In: environment variables. Out: frozen settings objects. Promise: every setting is in
docs/settings.md, and an error message names the invalid variable without its value.

1. `settings`: the settings of a gateway and of a site.
2. `doc`: writes docs/settings.md from all settings classes.
3. `errors`: invalid settings as messages.
4. `secretoutput`: logs, tracebacks and messages without secrets.
5. `stateaccess`: who besides its owner may enter a state folder.
6. `brokeraddress`: the option `--mqtt HOST:PORT`.
"""

__all__: list[str] = []
