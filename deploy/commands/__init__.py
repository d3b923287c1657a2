"""Commands of `kpstream`, one file each.

In: arguments. Out: what the user sees, and an exit code. Promise: a command imports what it needs
when it runs, and an error says what to do next.

`deploy.cli` finds them by name.
"""

__all__: list[str] = []
