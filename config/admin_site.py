"""The console: Django admin, read-only where it shows evidence."""

from django.contrib.admin.apps import AdminConfig
from unfold.sites import UnfoldAdminSite


class TallystickAdminSite(UnfoldAdminSite):
    """The auditor's and operator's console."""


class TallystickAdminConfig(AdminConfig):
    default_site = "config.admin_site.TallystickAdminSite"
