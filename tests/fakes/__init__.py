"""Fakes at public seams, in the open: a view of a gateway, a browser, an InfluxDB."""
