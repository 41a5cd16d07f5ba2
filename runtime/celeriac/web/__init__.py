"""The web processes: the project's WSGI or ASGI application, and what a deployment asks them.

======================  ===========================================================================
`~.wsgi`, `~.asgi`      what gunicorn serves
`~.loading`             what either loads before gunicorn forks
`~.server`              how an ASGI application is served, and its websockets end
`~.health`              the endpoints under ``/-/celeriac/``
`~.metrics`             the site in figures, in the format of `~.exposition`
`~.session`             whether somebody's session of the site opens Flower
`~.readiness`           the readiness check of a release, before it accepts a request
`~.warmup`              the warm-up: a process has done once what its requests do
`~.overdue`             a process with a request that does not end is replaced
`~.request`             one request from within the process
======================  ===========================================================================
"""
