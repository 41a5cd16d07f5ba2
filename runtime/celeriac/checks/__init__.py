"""Refuses settings of Celery and limits of tasks that cannot mean what they say.

A Django app. ``"celeriac.checks"`` in ``INSTALLED_APPS`` is all that a project does; one that has settings of its own
whose names begin with ``CELERY`` leaves it out.

=================  ==================================================  ====================================
`~.names`          a name that is not Celery's                         stops every process at its start
`~.limits`         a soft time limit that is not below the hard one    the same; of one task: ``celeriac.E030``
                   a task that Redis would give away while it runs     ``celeriac.E031``, ``celeriac.I031``
`~.arguments`      results that keep what must not be kept             ``celeriac.E032``
=================  ==================================================  ====================================
"""
