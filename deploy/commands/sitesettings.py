"""Settings of a site, from the environment and the options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.settings.errors import exit_on_invalid_settings

if TYPE_CHECKING:
    from deploy.settings.settings import SiteSettings
    from deploy.stack.site import Site

__all__ = ["load_site", "load_site_settings"]


def load_site_settings(**options: object) -> SiteSettings:
    """Return the settings of the site; an option that is None leaves the environment in force.

    Raises:
        click.ClickException: A setting is invalid.
    """
    from deploy.settings.settings import SiteSettings

    given = {name: value for name, value in options.items() if value is not None}
    with exit_on_invalid_settings():
        return SiteSettings(**given)  # type: ignore[arg-type]


def load_site(**options: object) -> Site:
    """Return the site with all of its settings, see `load_site_settings`.

    Raises:
        click.ClickException: A setting is invalid.
    """
    from deploy.stack.site import Site
    from ingest.settings import IngestSettings
    from pipeline.settings import PipelineSettings

    with exit_on_invalid_settings():
        return Site.of(load_site_settings(**options), IngestSettings(), PipelineSettings())
