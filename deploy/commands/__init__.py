"""Commands of `kpstream`, one file each.

In: arguments and settings. Out: text for the user, and an exit code. Promise: a command imports
what it needs when it runs, and an error message says what to do next.

1. `gateway`, `demo`: a gateway with `simulate`, and a trial of all of it on one machine.
2. `site` with `siteup`, `sitedown`, `sitesettings`, `sitetable`: a whole site.
3. `bridge`, `worker`, `store`: the processes of a site.
4. `replay`, `deadletters` with `dead_letter_reader`: publish recorded data or refused messages.
5. `models`, `certs`, `dashboards`: registry, certificates, boards and alerts.
6. `statefolder`: creates the state folder for `gateway`, `demo` and `site`.

`deploy.cli` finds the commands by name.
"""

__all__: list[str] = []
