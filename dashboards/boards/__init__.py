"""The boards of a site, one file each. Pure.

In: queries and visuals. Out: `Board` objects with fixed uids. Promise: pushing a board again
changes nothing.
"""

__all__: list[str] = []
