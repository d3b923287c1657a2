"""Settings of processes, their documentation and their errors.

In: environment variables. Out: frozen settings objects. Promise: every setting is in
docs/settings.md, and an invalid one is named with its value's problem and without secrets.

`settings` are those of gateway and site, `doc` writes the page, `errors` the message.
"""

__all__: list[str] = []
