"""What a release goes through before it serves: ``python -m celeriac.release STEP…``.

======================  ===========================================================================
`~.__main__`            the command, and the table of its steps
`~.steps`               checks, imports, the first superuser
`~.static`              static files, where nginx finds them
`~.migrations`          the schema of the database
`~.queues`              queues that nobody reads, and those that nobody feeds
`~.broker`              the broker that the inventory chooses
`~.variables`           what the settings ask for and the environment does not have
`~.caches`              a check of the project: the Redis of the queue is none of its caches
======================  ===========================================================================
"""
