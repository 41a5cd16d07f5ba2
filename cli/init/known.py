"""What the names of variables mean, in most projects; and the values by which a setting is known again."""

from __future__ import annotations

import re

PLACEHOLDER = "1"

# Ready values of the inventory, each with the one that stands for it in a trial: nobody has it by chance.
READY = {
    "{{ site_secret_key }}": "celeriac-mark-of-a-secret-key-0123456789-abcdefghijklmnop",
    "{{ site_domain }}": "celeriac-mark.example.org",
    "{{ site_url }}": "https://celeriac-mark.example.org",
    "{{ site_database }}": "celeriac_mark",
    "{{ site_database_user }}": "celeriac_mark_user",
    "{{ site_database_password }}": "celeriac-mark-password",
    "{{ site_broker_url }}": "redis://site:celeriac-mark@127.0.0.1:16379/0",
    "{{ site_results_url }}": "redis://site:celeriac-mark@127.0.0.1:16380/0",
}
MARK = "celeriac-mark"
# What every process on a host has (roles/site_host/vars/main.yml), as a trial has it.
MARKS = {
    "SECRET_KEY": READY["{{ site_secret_key }}"],
    "DEBUG": "false",
    "ALLOWED_HOSTS": READY["{{ site_domain }}"],
    "CSRF_TRUSTED_ORIGINS": READY["{{ site_url }}"],
    "SECURE_HSTS_SECONDS": "3600",
    "TIME_ZONE": "UTC",
    "DATABASE_URL": f"postgresql:///{READY['{{ site_database }}']}",
    "REDIS_HOST": "127.0.0.1",
    "REDIS_PORT": "16379",
    "REDIS_USERNAME": "site",
    "REDIS_PASSWORD": MARK,
}
BROKER_PORT = ":16379"

# A name, and the value that it has in the inventory; the first that fits.
_MEANINGS = (
    (r"SECRET_KEY|(?:DJANGO|APP|FLASK)_SECRET(?:_KEY)?|SECRET", "{{ site_secret_key }}"),
    (r"(?:DJANGO_)?ALLOWED_HOSTS?", "{{ site_domain }}"),
    (r"(?:\w+_)?(?:BROKER_URL|BROKER)|REDIS_(?:URL|URI|DSN)", "{{ site_broker_url }}"),
    (r"(?:\w+_)?CACHE_URL", "{{ site_results_url }}"),
    (r"(?:DB|DATABASE|POSTGRES|POSTGRESQL|PG|SQL)_?(?:NAME|DB|DATABASE)", "{{ site_database }}"),
    (r"(?:DB|DATABASE|POSTGRES|POSTGRESQL|PG|SQL)_?USER(?:NAME)?", "{{ site_database_user }}"),
    (r"(?:DB|DATABASE|POSTGRES|POSTGRESQL|PG|SQL)_?PASS(?:WORD|WD)?", "{{ site_database_password }}"),
    (r"(?:DB|DATABASE|POSTGRES|POSTGRESQL|PG|SQL)_?HOST", "127.0.0.1"),
    (r"(?:DB|DATABASE|POSTGRES|POSTGRESQL|PG|SQL)_?PORT", "5432"),
    (r"(?:DB|DATABASE|SQL)_?ENGINE", "django.db.backends.postgresql"),
    (r"(?:DJANGO_)?ADMIN_(?:URL|PATH)", "admin/"),
    (r"(?:DJANGO_|SITE_)?(?:DOMAIN(?:_NAME)?|HOSTNAME)", "{{ site_domain }}"),
    (r"(?:SITE|BASE|PUBLIC|APP|FRONTEND)_URL", "{{ site_url }}"),
)
_PREFIXED = re.compile(r"(?:DJANGO|APP|SITE)_(?=\w+_)")


def known(name: str) -> str:
    """Return the value that the inventory gives to a variable; empty where nobody here knows what it means."""
    for form in (name.upper(), _PREFIXED.sub("", name.upper())):
        for pattern, value in _MEANINGS:
            if re.fullmatch(pattern, form):
                return value
    return ""


def marked(value: str) -> str:
    """Return what stands for a value of the inventory in a trial."""
    for template, mark in READY.items():
        value = value.replace(template, mark)
    return value
