"""The Celery app: `celery -A TimeOut worker`, `celery -A TimeOut beat`.

Source: https://docs.celeryq.dev/en/stable/django/first-steps-with-django.html
"""

import os
from datetime import timedelta

from celeriac import defaults, priorities
from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "TimeOut.settings")

app = Celery("TimeOut")
# Every name that starts with CELERY_ in the settings is Celery's.
app.config_from_object("django.conf:settings", namespace="CELERY")
# What the settings do not say: that a task outlives its worker, a broker that comes back, priorities.
defaults.add(app)
# `tasks.py` of every installed app.
app.autodiscover_tasks()

# Periodic tasks. These are defaults: beat merges them into the database when it begins to send (`celeriac.schedule`),
# and what was changed there in the admin stays. A `task` here must be the name under which the task is registered, or
# the worker refuses the message.
app.conf.beat_schedule = {
    "app-post_counter_update": {
        "task": "app.tasks.post_counter_update",
        "schedule": crontab(),  # every minute; `crontab(minute=0, hour=0)` is daily at midnight
    },
    # Once a day, by the clock on the wall; not between two and three, which some nights do not have and some have
    # twice.
    "app-daily_report": {"task": "app.tasks.daily_report", "schedule": crontab(hour=6, minute=0)},
    "app-clear_expired_sessions": {"task": "app.tasks.clear_expired_sessions", "schedule": crontab(hour=4, minute=30)},
    # An interval does not care about clocks.
    "celeriac-prune": {"task": "celeriac.prune", "schedule": timedelta(hours=1)},
    # Before everything that waits: what the graphs show is a matter of now, and worth nothing later.
    "celeriac-measure": {
        "task": "celeriac.measure",
        "schedule": crontab(),
        "options": {"priority": priorities.HIGHEST, "expires": 50},
    },
}
