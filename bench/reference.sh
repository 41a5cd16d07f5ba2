#!/bin/sh
# What bin/bench measures `site.yml` against: the same services on a bare Debian, from one plain script, for one host, once.
#
#   tar -c site runtime/celeriac requirements.txt bench/reference.sh | ssh root@HOST 'tar -x && exec sh bench/reference.sh ADDRESS'
#
# ADDRESS is what people type into a browser. The script is as fast as a plain one gets: one apt transaction, uv, one process
# for Django's steps, all services started at once. What it cannot do is the reason for this repository: run a second time,
# deploy, undo, refuse a wrong value, say what it would change. To stay honest it installs the packages that the roles install,
# and ends when the answers are right that roles/site_health asks for.
set -eu
address=$1

phase() { echo "$(cut -d ' ' -f 1 /proc/uptime) $1"; }

phase apt
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends nginx openssl postgresql python3-venv redis-server >/dev/null

phase uv
python3 -m venv /srv/uv
# The same uv as the role's: its line in the lock file, with the hashes below it.
sed -n '/^uv==/,/[^\\]$/p' requirements.txt >/srv/uv/requirements.txt
/srv/uv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement /srv/uv/requirements.txt

phase packages
# Debian's certificates, and those that were added to them; uv would trust a list of its own.
export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt VIRTUAL_ENV=/srv/site/venv
mkdir /srv/site
cp -R site /srv/site/app
cp -R runtime /srv/site/runtime
/srv/uv/bin/uv venv --quiet --python /usr/bin/python3 $VIRTUAL_ENV
/srv/uv/bin/uv pip sync --quiet --require-hashes --compile-bytecode site/requirements.txt

phase settings
useradd --system --home-dir /srv/site --shell /usr/sbin/nologin site
useradd --system --home-dir /srv/site --shell /usr/sbin/nologin --gid site site_deploy
install -d -o site_deploy -g site /srv/site/static
install -d -m 0755 /etc/site
umask 077
redis_password=$(openssl rand -hex 20)
flower_password=$(openssl rand -hex 12)
admin_password=$(openssl rand -hex 12)
cat >/etc/site/environment <<END
DJANGO_SETTINGS_MODULE=TimeOut.settings
PYTHONPATH=/srv/site/runtime
SECRET_KEY=$(openssl rand -hex 32)
ALLOWED_HOSTS=$address
CSRF_TRUSTED_ORIGINS=https://$address
STATIC_ROOT=/srv/site/static
DATABASE_URL=postgresql:///site
REDIS_USERNAME=site
REDIS_PASSWORD=$redis_password
END
cat >/etc/site/flower.environment <<END
FLOWER_ADDRESS=127.0.0.1
FLOWER_URL_PREFIX=flower
FLOWER_BASIC_AUTH=admin:$flower_password
FLOWER_COOKIE_SECRET=$(openssl rand -hex 24)
END
openssl req -x509 -newkey rsa:2048 -noenc -days 3650 -subj "/CN=$address" -addext "subjectAltName=IP:$address" \
  -keyout /etc/nginx/site.key -out /etc/nginx/site.crt 2>/dev/null
umask 022

phase redis
cat >>/etc/redis/redis.conf <<END
aclfile /etc/redis/users.acl
appendonly yes
maxmemory 256mb
maxmemory-policy noeviction
END
printf 'user default off\nuser site on >%s ~* &* +@all -@dangerous +info\n' "$redis_password" >/etc/redis/users.acl
chown redis: /etc/redis/users.acl
chmod 0600 /etc/redis/users.acl
systemctl --quiet enable redis-server
systemctl restart redis-server

phase database
cd /
runuser -u postgres -- psql --quiet --set=ON_ERROR_STOP=1 <<END
CREATE ROLE site_deploy LOGIN;
CREATE ROLE site LOGIN;
CREATE DATABASE site OWNER site_deploy TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8';
REVOKE ALL ON DATABASE site FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE site TO site;
\connect site
ALTER DEFAULT PRIVILEGES FOR ROLE site_deploy GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO site;
ALTER DEFAULT PRIVILEGES FOR ROLE site_deploy GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO site;
END

phase migrate
cd /srv/site/app
set -a
. /etc/site/environment
export DJANGO_SUPERUSER_PASSWORD="$admin_password" FLOWER_PASSWORD="$flower_password"
set +a
python() { # account, program
  runuser -u "$1" -- /srv/site/venv/bin/python -c "import django; django.setup(); $2"
}
python site_deploy "
from django.core.management import call_command
call_command('check', deploy=True, databases=['default'], fail_level='WARNING')
call_command('migrate', verbosity=0)
call_command('collectstatic', interactive=False, verbosity=0)
call_command('createsuperuser', interactive=False, verbosity=0, username='admin', email='')
"

phase start
unit() { # name, type, command, more lines of [Service]
  cat >/etc/systemd/system/"$1".service <<END
[Unit]
Description=$1 of the site
After=network-online.target postgresql.service redis-server.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=$2
User=site
Group=site
WorkingDirectory=/srv/site/app
EnvironmentFile=/etc/site/environment
ExecStart=/srv/site/venv/bin/$3
Restart=always
RestartSec=1
KillMode=mixed
StateDirectory=$1
$4

[Install]
WantedBy=multi-user.target
END
}
unit gunicorn notify "gunicorn --preload --no-control-socket --worker-class=gthread --workers=2 --threads=4 TimeOut.wsgi" Sockets=gunicorn.socket
unit celery-worker exec "celery --app=TimeOut worker --concurrency=2 --loglevel=info --without-gossip" TimeoutStopSec=330
unit celery-beat exec "celery --app=TimeOut beat --loglevel=info --pidfile=" ""
unit flower exec "celery --app=TimeOut flower" EnvironmentFile=/etc/site/flower.environment
cat >/etc/systemd/system/gunicorn.socket <<END
[Socket]
ListenStream=/run/gunicorn.sock
SocketUser=www-data
SocketMode=0600

[Install]
WantedBy=sockets.target
END
rm /etc/nginx/sites-enabled/default
cat >/etc/nginx/sites-enabled/site.conf <<END
server {
    listen 80 default_server;
    return 301 https://$address\$request_uri;
}

server {
    listen 443 ssl default_server;
    ssl_certificate /etc/nginx/site.crt;
    ssl_certificate_key /etc/nginx/site.key;
    proxy_http_version 1.1;
    proxy_set_header Host \$http_host;
    proxy_set_header X-Forwarded-For \$remote_addr;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header Connection "";

    location / { proxy_pass http://unix:/run/gunicorn.sock; }
    location /static/ { alias /srv/site/static/; expires max; }
    location /flower/ { proxy_pass http://127.0.0.1:5555; }
    location ~ ^/flower/(metrics|healthcheck)$ { return 403; }
}
END
nginx -t -q
systemctl --quiet enable gunicorn.socket gunicorn celery-worker celery-beat flower
systemctl start --no-block gunicorn.socket gunicorn celery-worker celery-beat flower
systemctl reload nginx

phase health
python site "
import base64, json, os, ssl, sys, time, urllib.request
from app.tasks import post_counter_update

password = os.environ['FLOWER_PASSWORD']
login = {'Authorization': 'Basic ' + base64.b64encode(f'admin:{password}'.encode()).decode()}
anybody = ssl._create_unverified_context()

def answer(path, headers={}):
    try:
        request = urllib.request.Request('https://$address' + path, headers=headers)
        with urllib.request.urlopen(request, context=anybody, timeout=10) as response:
            return response.status, response.read()
    except OSError as error:
        return getattr(error, 'code', None), b''

def site():
    return answer('/health/')[0] == 200

def flower():
    status, workers = answer('/flower/api/workers?status=true', login)
    strangers = [answer('/flower' + path)[0] for path in ('/', '/api/workers')]
    return strangers == [401, 401] and status == 200 and any(json.loads(workers).values())

worker = post_counter_update.delay().successful
for works in (site, worker, flower):
    deadline = time.monotonic() + 60
    while not works():
        if time.monotonic() > deadline:
            sys.exit(f'{works.__name__} does not work')
        time.sleep(0.1)
"
systemctl is-active --quiet nginx redis-server postgresql@*-main gunicorn celery-worker celery-beat flower
phase end
echo "https://$address/ admin $admin_password"
