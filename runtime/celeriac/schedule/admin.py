"""What the admin imports: the pages of the schedule, or none where an app is missing: a system check names it."""

from celeriac.needs import missing_apps
from celeriac.schedule.checks import APPS

if not missing_apps(APPS):
    from celeriac.schedule import entries  # noqa: F401  (its pages register themselves)
