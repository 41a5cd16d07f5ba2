"""What a project includes: the console's addresses, or none where something is missing: a system check names it."""

from typing import Any

from celeriac.console import checks
from celeriac.needs import missing_apps

urlpatterns: list[Any] = []
if not (checks.missing_packages() or missing_apps(checks.APPS)):
    from celeriac.console import addresses

    urlpatterns += addresses.urlpatterns
