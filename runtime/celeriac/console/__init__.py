"""The console: what was sent and what became of it, on pages, by an API and in a terminal.

A project adds the app and the journal that it reads, and mounts it::

    INSTALLED_APPS = [..., "celeriac.console", "celeriac.ledger"]

    path("tasks/", include("celeriac.console.urls"))

What else it needs is named by its system checks (`~.checks`). Who may see and do what are permissions on the journal
(`celeriac.ledger.permissions`).

==================  ==========================================================================================
`~.views`           the pages; `~.forms`, `~.pages`, `~.states` and `~.templatetags` are how they look
`~.api`             the same for programs, with `~.tokens`
`~.management`      the same in a terminal: ``manage.py task`` and ``manage.py api_token``
`~.runs`            one task that was sent: its state, its result, and what can be done about it
`~.revocations`     what was revoked is known to each worker that starts
`~.history`         who did what, in the log of the admin
`~.schedule`        where the entries of the schedule are in the admin
`~.broker`          how full the broker is, and what is parked there
`~.samples`         what `~.graphs` are drawn from, measured by `~.tasks`
`~.delivery`        what the journal has counted
==================  ==========================================================================================

====================================  ========================================================================
setting                               what it is
====================================  ========================================================================
``CELERIAC_CONSOLE_BASE_TEMPLATE``    what the pages extend, with the blocks ``title``, ``head`` and ``content``;
                                      ``celeriac/console/base.html``
``CELERIAC_CONSOLE_FLOWER_URL``       where Flower is; without it there is no link
====================================  ========================================================================

A template of the same name in an app that stands before this one replaces one of these, as anywhere in Django:
``celeriac/console/_actions.html`` has the buttons above the list. ``celeriac/console/_nav.html`` has the links of the
console, for a base template to include.
"""
