"""Simulated fleets (demo and tests)."""
