"""Takes a site off a host: its processes first, then all else of it, and last what says that it was there.

Each part looks at what is there, so a run that was interrupted is ended by the next. Daemons that another site, or
somebody else, has a use for go on; those that only this one had are stopped, and do not start at boot. Packages stay.
"""

from __future__ import annotations

import grp
import json
import pwd
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.celeriac.site.plugins.module_utils import site_cards
from ansible_collections.celeriac.site.plugins.module_utils.site_errors import RemovalError
from ansible_collections.celeriac.site.plugins.module_utils.site_files import remove, write_atomically
from ansible_collections.celeriac.site.plugins.module_utils.site_firewall import Firewall
from ansible_collections.celeriac.site.plugins.module_utils.site_maintenance import folder_of
from ansible_collections.celeriac.site.plugins.module_utils.site_options import Site
from ansible_collections.celeriac.site.plugins.module_utils.site_processes import (
    CANDIDATE_DIRECTORY,
    RUNTIME_UNITS,
    STAMPS,
)
from ansible_collections.celeriac.site.plugins.module_utils.systemd import UNIT_DIRECTORY, Run, Systemd

NGINX, REDIS, RABBITMQ = Path("/etc/nginx"), Path("/etc/redis"), Path("/etc/rabbitmq")
NGINX_SHARED = NGINX / "conf.d/celeriac.conf"
WELCOME = NGINX / "sites-enabled/default"
KEEPALIVED, KEEPALIVED_OWN = Path("/etc/keepalived"), "keepalived.conf"
HAPROXY, HAPROXY_SHARED = Path("/etc/haproxy/celeriac"), "00-celeriac.cfg"
LIBRARY, CACHE = Path("/var/lib"), Path("/var/cache")
COMMANDS = Path("/usr/local/bin")
INCLUDE = "include /etc/redis/site.conf\n"
POSTGRESQL, PATRONI, ETCD = Path("/etc/postgresql"), Path("/etc/patroni"), Path("/etc/default/etcd")
NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/celeriac.conf")
# Of a cluster that goes on without backups until another site writes its settings: nothing waits for them.
ARCHIVE_COMMAND = re.compile(r"(?m)^archive_command = .*$")
NO_ARCHIVE = "archive_command = '/bin/true'"
PSQL = ["runuser", "--user=postgres", "--", "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]


@dataclass(frozen=True)
class Belongings:
    """What a site has beside its folders.

    Attributes:
        groups: of the host.
        accounts: that of the releases first, for the other one has the group of both.
        databases: in PostgreSQL.
        virtual_host: in RabbitMQ.
        redis: the units of Redis: of the queues, and of results.
    """

    groups: frozenset[str]
    accounts: tuple[str, ...]
    databases: tuple[str, ...]
    virtual_host: str
    redis: tuple[str, str]


class Removal:
    """Removes a site from a host.

    Args:
        run: to run commands.
        site: what is known about it.
        has: what it has.
    """

    def __init__(self, run: Run, site: Site, has: Belongings) -> None:
        self._run = run
        self._systemd = Systemd(run)
        self._site = site
        self._names = site.names
        self._has = has
        self._is_alone = not [card for card in site_cards.cards() if card["name"] != site.name]
        self.changed = False
        self.left: list[str] = []

    # ---- Processes

    def processes(self) -> None:
        """Let all its processes end, and forget their units."""
        target = UNIT_DIRECTORY / self._names.target
        units = [path for path in UNIT_DIRECTORY.iterdir() if self._is_ours(path)]
        stopped = [path.name for path in (target, *units) if path.exists() and not path.is_symlink()]
        if stopped:
            # Workers end what they run, as ever; what waits in the queues goes with them.
            self._call("stop", *stopped)
        if target.exists():
            self._call("disable", target.name)
        for path in units:
            self._remove(
                RUNTIME_UNITS / f"{path.name}.d", CANDIDATE_DIRECTORY / path.name, STAMPS / f"stamp-{path.name}"
            )
            self._remove(path)
        self._remove(UNIT_DIRECTORY / f"{target.name}.wants", target)
        if stopped:
            self._call("daemon-reload")
            self._run(["systemctl", "reset-failed", *stopped])  # of those that have not failed it knows nothing

    def _is_ours(self, path: Path) -> bool:
        if not path.is_file() and not path.is_symlink():
            return False
        return path.exists() and f"PartOf={self._names.target}\n" in path.read_text(errors="replace")

    # ---- All else

    def rest(self) -> None:
        """Remove all else, and last its card."""
        if "web" in self._has.groups:
            self._keepalived()
            self._nginx()
        self._haproxy()
        if "broker" in self._has.groups:
            self._redis()
            self._rabbitmq()
        if "database" in self._has.groups:
            self._postgresql()
        if self._is_alone:
            self.changed |= Firewall(self._run).remove()
        self._accounts()
        self._folders()
        self._remove(site_cards.FOLDER / f"{self._names.site}.json")
        if self._is_alone and site_cards.FOLDER.exists():
            self._remove(site_cards.FOLDER)
        self.left.append(
            "Debian packages with their accounts and files, and what was said in the journal and in /var/log"
        )

    def _shared_with(self, group: str) -> bool:
        return bool(site_cards.neighbours(self._site.name, group))

    def _keepalived(self) -> None:
        self._part_of(
            "keepalived.service", KEEPALIVED / "celeriac" / f"{self._names.word}.conf", KEEPALIVED / KEEPALIVED_OWN
        )

    def _haproxy(self) -> None:
        self._part_of("haproxy.service", HAPROXY / f"{self._names.word}.cfg", HAPROXY / HAPROXY_SHARED)

    def _part_of(self, unit: str, file: Path, shared: Path) -> None:
        """Take away what the site has of a daemon of which each site has a file; with the last one the daemon stops."""
        if not file.exists():
            return
        if [other for other in file.parent.iterdir() if other not in (file, shared)]:
            self._remove(file)
            self._call("reload-or-restart", unit)
            return
        # Its file goes last: a run that was interrupted finds it.
        self._stop(unit)
        self._remove(shared, *self._drop_ins(unit), file, file.parent)

    def _nginx(self) -> None:
        prefix, word = self._names.prefix, self._names.word
        state = f"{prefix}nginx-acme"
        self._remove(
            NGINX / "sites-enabled" / f"{word}.conf",
            folder_of(self._names),
            self._names.pair,
            self._names.certificate,
            LIBRARY / state,
            LIBRARY / "private" / state,
        )
        if self._shared_with("web"):
            self._reload_nginx()
            return
        if not NGINX_SHARED.exists():
            return  # it was never here, or an earlier run has done all of this
        files = (path for folder in ("sites-enabled", "conf.d") for path in (NGINX / folder).glob("*"))
        foreign = [path for path in files if path not in (WELCOME, NGINX_SHARED)]
        self._remove(*self._drop_ins("nginx.service"))
        if foreign:
            self._call("daemon-reload")
            self._remove(NGINX_SHARED)
            self._reload_nginx()
            self.left.append(f"nginx, for {', '.join(map(str, foreign))}")
            return
        self._stop("nginx.service")
        if (NGINX / "sites-available/default").exists() and not WELCOME.is_symlink():
            WELCOME.symlink_to(NGINX / "sites-available/default")
        self._remove(NGINX_SHARED)

    def _reload_nginx(self) -> None:
        code, _, error = self._run(["nginx", "-t", "-q"])
        if code != 0:
            raise RemovalError(f"nginx refuses its files without this site: {error.strip()}")
        self._call("reload-or-restart", "nginx.service")

    def _redis(self) -> None:
        queues, results = self._has.redis
        prefix, name = self._names.prefix, self._names.site
        data = LIBRARY / "redis"
        files = {
            results: [
                REDIS / f"redis-{prefix}results.conf",
                REDIS / f"{prefix}results.acl",
                data / f"{prefix}results.rdb",
            ],
            queues: [REDIS / "site.conf", REDIS / "users.acl", data / "dump.rdb", data / "appendonlydir"]
            if not prefix
            else [
                REDIS / f"redis-{name}.conf",
                REDIS / f"{name}.acl",
                data / f"{name}.rdb",
                data / f"{name}-appendonly",
            ],
        }
        for unit, paths in files.items():
            # Without our file Debian's own Redis is not ours to stop.
            if paths[0].exists():
                self._stop(f"{unit}.service")
                if not prefix and unit == queues:
                    self._edit(REDIS / "redis.conf", INCLUDE, "")
                # The first goes last: a run that was interrupted finds it.
                self._remove(*paths[::-1])

    def _rabbitmq(self) -> None:
        definitions = RABBITMQ / "definitions.d" / f"{self._has.virtual_host}.json"
        if not definitions.exists():
            return
        self._call("start", "rabbitmq-server.service")
        if self._has.virtual_host in self._rabbitmqctl("list_vhosts"):
            self._delete("vhost", self._has.virtual_host)
        for user in self._rabbitmqctl("list_users"):
            if re.fullmatch(rf"{self._has.virtual_host}_[0-9a-f]{{8}}", user):
                self._delete("user", user)
        others = [*definitions.parent.glob("*.json")] != [definitions]
        if others or set(self._rabbitmqctl("list_vhosts")) - {"/"}:
            self.left.append("rabbitmq-server, for other virtual hosts")
        else:
            self._stop("rabbitmq-server.service", "epmd.service", "epmd.socket")
            self._remove(*self._drop_ins("rabbitmq-server.service"), *self._drop_ins("epmd.socket"))
            self._remove(RABBITMQ / "rabbitmq.conf")
            self.left.append(f"{RABBITMQ}/rabbitmq-env.conf, and RabbitMQ's own {LIBRARY}/rabbitmq")
        self._remove(definitions)

    def _delete(self, kind: str, name: str) -> None:
        """Let RabbitMQ delete something, unless another one of its hosts was faster."""
        try:
            self._rabbitmqctl(f"delete_{kind}", name)
        except RemovalError:
            if name in self._rabbitmqctl(f"list_{kind}s"):
                raise

    def _rabbitmqctl(self, *words: str) -> list[str]:
        # Only what lists something has a head to leave out, and takes the word for it.
        options = ["--no-table-headers"] if words[0].startswith("list_") else []
        code, output, error = self._run(["rabbitmqctl", "--quiet", *options, *words])
        if code != 0:
            raise RemovalError(f"rabbitmqctl {words[0]} has failed: {(error or output).strip()}")
        # (Of nothing at all 3.10 says an empty line.)
        return [line.split("\t")[0] for line in output.splitlines() if line]

    def _postgresql(self) -> None:
        for file in PATRONI.glob("*-main.yml"):
            self._patroni(file)
        code, output, _ = self._run(["pg_lsclusters", "--json"]) if POSTGRESQL.exists() else (1, "", "")
        clusters = json.loads(output or "[]") if code == 0 else []
        for cluster in clusters:
            if str(cluster["port"]) != "5432":
                continue
            unit, folder = f"postgresql@{cluster['version']}-{cluster['cluster']}.service", Path(cluster["configdir"])
            bare = self._is_bare(unit, folder)
            if not cluster["running"] and bare:
                continue  # an earlier run has stopped it
            self._call("start", unit)
            if self._drop_databases() or not bare:
                self._leave_cluster(unit, folder)

    def _patroni(self, file: Path) -> None:
        """Take a member of several databases away, with its copy; the others have theirs, or go as well."""
        unit = f"patroni@{file.stem}.service"
        if not self._drop_ins(unit):
            return
        if self._systemd.state(unit) == "active" and (foreign := self._foreign()):
            if self._psql("SELECT pg_is_in_recovery()") == ["f"]:
                self._drop_databases()
            self.left.append(f"PostgreSQL, for {', '.join(foreign)}")
            return
        self._stop(unit, "etcd.service")
        version, _, cluster = file.stem.partition("-")
        if (POSTGRESQL / version / cluster).exists():
            self._do("pg_dropcluster", "--stop", version, cluster)
        self._remove(LIBRARY / "etcd/site", *self._drop_ins("etcd.service"), ETCD, ETCD.parents[1] / "etcd/member")
        # Its file goes last: a run that was interrupted finds it.
        self._remove(NO_CLUSTER, PATRONI / "member", file, *self._drop_ins(unit))
        self._call("daemon-reload")

    def _is_bare(self, unit: str, folder: Path) -> bool:
        return not [*self._drop_ins(unit), *folder.glob("conf.d/site.conf")]

    def _drop_databases(self) -> bool:
        """Drop what is the site's; return whether there was anything."""
        users = "|".join(self._has.accounts)
        roles = self._psql(
            f"SELECT rolname FROM pg_roles WHERE rolname ~ '^({users})(_[0-9a-f]{{8}})?$' ORDER BY 1 DESC"
        )
        there = self._psql("SELECT datname FROM pg_database")
        statements = [f"DROP DATABASE {name} WITH (FORCE)" for name in self._has.databases if name in there]
        statements += [f"DROP ROLE {role}" for role in roles]
        for statement in statements:
            self._psql(statement)
            self.changed = True
        return bool(statements)

    def _leave_cluster(self, unit: str, folder: Path) -> None:
        settings = folder / "conf.d/site.conf"
        if self._shared_with("database"):
            if self._names.prefix == "" and self._edit(settings, ARCHIVE_COMMAND, NO_ARCHIVE):
                self._call("reload", unit)
            return
        if foreign := self._foreign():
            self.left.append(f"PostgreSQL, for {', '.join(foreign)}: it has Debian's settings from its next restart on")
        else:
            self._stop(unit, "postgresql.service")
        self._remove(settings, *self._drop_ins(unit))
        self._call("daemon-reload")

    def _foreign(self) -> list[str]:
        """Return the databases that are neither the site's nor Debian's."""
        own = {*self._has.databases, "postgres", "template0", "template1"}
        return [name for name in self._psql("SELECT datname FROM pg_database") if name not in own]

    def _psql(self, statement: str) -> list[str]:
        code, output, error = self._run([*PSQL, f"--command={statement}", "postgres"])
        if code != 0:
            raise RemovalError(f"PostgreSQL refuses: {error.partition(chr(10))[0]}")
        return [line for line in output.splitlines() if line]

    def _accounts(self) -> None:
        for account in self._has.accounts:
            try:
                found = pwd.getpwnam(account)
            except KeyError:
                continue
            if Path(found.pw_dir) != self._site.root:
                self.left.append(f"the account {account}, which is somebody's")
                continue
            self._do("userdel", account)
        for account in self._has.accounts:
            try:
                group = grp.getgrnam(account)
            except KeyError:
                continue
            if not group.gr_mem and not any(user.pw_gid == group.gr_gid for user in pwd.getpwall()):
                self._do("groupdel", account)

    def _folders(self) -> None:
        prefix, word = self._names.prefix, self._names.word
        known = [path.stem for path in self._names.descriptions.glob("*.service")]
        processes = {*self._site.processes, *known}
        self._remove(
            *(CACHE / name for name in processes),
            *(LIBRARY / name for name in processes),
            CACHE / f"{word}-manage",
            *(COMMANDS / f"{word}-{command}" for command in ("manage", "celery", "run")),
            self._site.socket,
            self._site.monitor_socket,
            self._site.root,
            self._names.etc,
        )
        if not prefix:
            self._remove(*LIBRARY.glob("backup-*"), *CACHE.glob("backup-*"))

    # ---- How

    @staticmethod
    def _drop_ins(unit: str) -> list[Path]:
        """Return what we have said of a unit of Debian's; a folder of somebody else's files stays."""
        folder = UNIT_DIRECTORY / f"{unit}.d"
        ours = [folder / "site.conf"]
        found = [path for path in ours if path.exists()]
        alone = folder.is_dir() and all(path in ours for path in folder.iterdir())
        return [*found, folder] if alone else found

    def _stop(self, *units: str) -> None:
        """Stop units of Debian's, and let the boot not start them."""
        for unit in units:
            self._run(["systemctl", "disable", "--quiet", "--now", unit])  # one that is not there is stopped
        self._call("daemon-reload")
        self._run(["systemctl", "reset-failed", *units])
        self.left.append(f"{units[0]}, which is stopped, and does not start at boot")
        self.changed = True

    def _remove(self, *paths: Path) -> None:
        for path in paths:
            self.changed |= remove(path)

    def _edit(self, file: Path, old: str | re.Pattern[str], new: str) -> bool:
        """Replace something in a file; return whether that changed it."""
        if not file.exists():
            return False
        text = file.read_text()
        edited = text.replace(old, new) if isinstance(old, str) else old.sub(new, text)
        if edited == text:
            return False
        known = file.stat()
        write_atomically(file, edited.encode(), stat.S_IMODE(known.st_mode), (known.st_uid, known.st_gid))
        self.changed = True
        return True

    def _call(self, *words: str) -> None:
        self._systemd.call(*words)

    def _do(self, *words: str) -> None:
        code, output, error = self._run([*words])
        if code != 0:
            raise RemovalError(f"{' '.join(words)} has failed: {(error or output).strip()}")
        self.changed = True


def what_there_is(site: Site, accounts: Sequence[str]) -> Iterator[str]:
    """Yield what a host has of a site."""
    names = site.names
    for path in (names.etc, site.root, UNIT_DIRECTORY / names.target, site_cards.FOLDER / f"{names.site}.json"):
        if path.exists():
            yield str(path)
    for account in accounts:
        try:
            if Path(pwd.getpwnam(account).pw_dir) == site.root:
                yield f"the account {account}"
        except KeyError:
            continue
