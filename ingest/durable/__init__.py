"""What a SQLite file cannot prove of itself: that it is whole, the newest, and still in place.

The log and the results file confirm what others then forget, so losing the end of one of them in
silence would lose it for good. SQLite does not notice such a loss. These files do:

1. `wal` walks the chain of checksums of a write-ahead file before SQLite opens it; `walrepair`
   mends it.
2. `mark` keeps beside a database how far it certainly reached.
3. `inplace` compares the files of an open database with those that were opened.

None of them opens a database.
"""

__all__: list[str] = []
