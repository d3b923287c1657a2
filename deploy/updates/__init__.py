"""How a gateway follows its centre: fetch, verify, compare, take over, go back.

What comes in is a repository of The Update Framework behind a URL or in a folder; what goes out
are versions in the gateway's own registry, moves of its pointer, and reports. Only the short-lived
child process that fetches imports `tuf`.
"""
