"""``python -m celeriac.manage …`` is ``manage.py …``, with the tasks and the results of the site's processes.

By itself ``manage.py`` has those of the project's settings, whatever the inventory says.
"""

import runpy
import sys
from pathlib import Path

from django.core.management import execute_from_command_line

from celeriac.configure import RETRIES_IN_WEB, configure
from celeriac.project import celery_app


def main() -> None:
    """Run the project's own ``manage.py`` of the working directory, Django's where it has none."""
    try:
        configure(celery_app(), result_retries=RETRIES_IN_WEB)
    except Exception as error:  # whoever repairs a site needs its commands
        print(f"Tasks and results are as the project's settings have them: {error}", file=sys.stderr)
    sys.argv[0] = "manage.py"
    if Path("manage.py").exists():
        runpy.run_path("manage.py", run_name="__main__")
    else:
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
