"""What a project includes: the console's addresses, or none where a package is missing, which a system check names."""

from typing import Any

from celeriac.console import checks

urlpatterns: list[Any] = []
if not checks.missing_packages():
    from celeriac.console import addresses

    urlpatterns += addresses.urlpatterns
