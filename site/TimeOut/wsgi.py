"""The web application that gunicorn serves: `gunicorn TimeOut.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "TimeOut.settings")

application = get_wsgi_application()
