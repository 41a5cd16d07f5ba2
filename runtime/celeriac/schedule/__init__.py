"""The schedule: what the code says are defaults in the database, and what an operator changed in the admin stays.

A project adds the app behind that of django-celery-beat, and names the scheduler::

    INSTALLED_APPS = [..., "django_celery_beat", "celeriac.schedule"]

    CELERY_BEAT_SCHEDULER = "celeriac.schedule.scheduler:DatabaseScheduler"

================  ============================================================================================
`~.scheduler`     merges the entries of the code into the database
`~.upcoming`      what is due next
`~.entries`       its pages in the admin: shows where an entry comes from and when it is due, and runs it now
`~.models`        the entries as the code last had them
================  ============================================================================================
"""
