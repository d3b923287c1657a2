"""Fuzz tests of untrusted input: refused or accepted; no crash, no hang, no lost neighbour.

The tests are bounded in time. The script `python -m tests.fuzz.atheris_wire` runs longer and is
guided by coverage; it needs atheris, which is not one of our dependencies.
"""
