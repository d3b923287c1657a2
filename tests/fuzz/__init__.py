"""Any bytes where bytes come from outside: refused or taken; no crash, no hang, no lost neighbour.

The tests are bounded in time. The scripts beside them (`python -m tests.fuzz.atheris_wire`) look
for longer and with coverage; they need atheris, which is no dependency of ours.
"""
