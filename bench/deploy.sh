#!/bin/sh
# What bin/bench measures `playbooks/deploy.yml` against: a new version onto a host that bench/reference.sh has made.
#
#   bench/deploy.sh FOLDER ssh root@HOST
#
# The plain script that a careful person writes: the code, the one virtualenv, the database, the static files, and a restart
# of the four processes in place. An error ends it where it stands. What it cannot do is the reason for this repository: know
# whether the new version works before it serves, keep requests and tasks flowing while processes are replaced, go back.
set -eu
folder=$1
shift
tar -c -C "$folder" . | "$@" '
set -eu
phase() { echo "$(cut -d " " -f 1 /proc/uptime) $1"; }

phase code
rm -rf /srv/site/app.new
mkdir /srv/site/app.new
tar -x --no-same-owner -C /srv/site/app.new
cd /srv/site/app.new

phase packages
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt VIRTUAL_ENV=/srv/site/venv
/srv/uv/bin/uv pip sync --quiet --require-hashes --compile-bytecode requirements.txt

phase migrate
set -a
. /etc/site/environment
set +a
runuser -u site_deploy -- /srv/site/venv/bin/python -c "
import django
from django.core.management import call_command
django.setup()
call_command(\"check\", deploy=True, databases=[\"default\"], fail_level=\"WARNING\")
call_command(\"migrate\", verbosity=0)
call_command(\"collectstatic\", interactive=False, verbosity=0)
"

phase restart
rm -rf /srv/site/app.old
mv /srv/site/app /srv/site/app.old
mv /srv/site/app.new /srv/site/app
systemctl restart gunicorn celery-worker celery-beat flower
systemctl is-active --quiet gunicorn celery-worker celery-beat flower
phase end
'
