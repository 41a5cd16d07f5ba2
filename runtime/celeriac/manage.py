"""``python -m celeriac.manage …`` is ``manage.py …``, with the tasks and the results of the site's processes.

By itself ``manage.py`` has those of the project's settings, whatever the inventory says.
"""

import runpy
import sys

from celeriac.configure import RETRIES_IN_WEB, configure
from celeriac.project import celery_app


def main() -> None:
    """Run the project's own ``manage.py``, which is in the working directory."""
    try:
        configure(celery_app(), result_retries=RETRIES_IN_WEB)
    except Exception as error:  # whoever repairs a site needs its commands
        print(f"Tasks and results are as the project's settings have them: {error}", file=sys.stderr)
    sys.argv[0] = "manage.py"
    runpy.run_path("manage.py", run_name="__main__")


if __name__ == "__main__":
    main()
