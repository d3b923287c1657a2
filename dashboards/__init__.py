"""Grafana boards as code. They come with the site; a gateway has its own console page."""

__all__: list[str] = []
