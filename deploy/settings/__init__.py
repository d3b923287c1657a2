"""Settings of gateway and site, their documentation and their errors.

In: environment variables. Out: frozen settings objects. Promise: every setting is in
docs/settings.md, and an error message names the invalid variable without its value.

1. `settings`: the settings of a gateway and of a site.
2. `rolloutsettings`, `centresettings`: a gateway that follows a centre, and the centre; both may
   have a broker of their own (`ownbroker`).
3. `doc`: writes docs/settings.md from all settings classes.
4. `errors`: invalid settings as messages.
5. `secretoutput`: logs, tracebacks and messages without secrets.
6. `stateaccess`: who besides its owner may enter a state folder.
7. `brokeraddress`: the option `--mqtt HOST:PORT`.
"""

__all__: list[str] = []
