"""The process that sends what is due: one of all that run, and systemd is told how it is.

======================  ===========================================================================
`~.scheduler`           which scheduler a project has, with ours before it
`~.leading`             what each of ours does
`~.database`            django-celery-beat's, mended
`~.file`                Celery's own, mended
`~.lease`               which beat of all sends
`~.status`              the line that says how it is
======================  ===========================================================================
"""
