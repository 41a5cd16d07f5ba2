"""What a project includes: the console's addresses, or none where something is missing: a system check names it."""

from typing import Any

from celeriac.console import checks
from celeriac.needs import missing_apps, missing_packages

urlpatterns: list[Any] = []
if not (missing_packages(checks.PACKAGES) or missing_apps(checks.APPS)):
    from celeriac.console import addresses

    urlpatterns += addresses.urlpatterns
