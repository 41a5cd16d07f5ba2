"""The process that sends what is due: one of all that run, and systemd is told how it is.

======================  ===========================================================================
`~.scheduler`           django-celery-beat's, mended
`~.lease`               which beat of all sends
`~.status`              the line that says how it is
======================  ===========================================================================
"""
