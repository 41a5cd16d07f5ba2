"""What a release goes through before it serves: ``python -m celeriac.release STEP…``.

======================  ===========================================================================
`~.__main__`            the command, and the table of its steps
`~.steps`               checks, imports, the first superuser
`~.static`              static files, where nginx finds them
`~.migrations`          the schema of the database
`~.caches`              a check of the project: the Redis of the queue is none of its caches
======================  ===========================================================================
"""
