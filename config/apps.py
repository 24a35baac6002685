"""Django's own doors: the wiring, and the console's place in it. Nothing heavy: apps are not loaded yet."""

from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.utils.module_loading import autodiscover_modules


class ConfigConfig(AppConfig):
    default = True
    name = "config"

    def ready(self) -> None:
        from config import checks  # noqa: F401  registers the system checks


class TallystickAdminConfig(SimpleAdminConfig):
    default = False
    default_site = "config.admin_site.TallystickAdminSite"

    def ready(self) -> None:
        super().ready()
        from django.contrib.admin import site

        autodiscover_modules("admin", register_to=site)
