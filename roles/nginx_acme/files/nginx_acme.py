"""Keep the certificate of the site, which an authority gives by ACME: what `nginx-acme.service` runs.

Twice in a run of the unit. `get`, as an account without rights and in a sandbox, lets certbot ask for a certificate
where one is due. `install`, as root, gives it to nginx. Each ends with one line that says what came of it; the last of
them is what the status shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

# What an authority calls its refusals (RFC 8555, 6.7), and what is most likely wrong then.
CAUSES = {
    "connection": "the name is not in the DNS or points to another host, or a firewall closes port 80 of this one",
    "unauthorized": "the name points to another host, which answers on port 80",
    "dns": "the name is not in the DNS, or its servers do not answer",
    "caa": "the CAA record of the name lets only other authorities give certificates for it",
    "rateLimited": "too many certificates or attempts; later it will go, and a staging directory is for trying",
    "rejectedIdentifier": "this authority gives no certificate for such a name",
    "externalAccountRequired": "nginx_acme_eab_key_id and vault_nginx_acme_eab_key are not what it has given to you",
    "invalidContact": "nginx_acme_email is no address that the authority takes",
    "unsupportedContact": "nginx_acme_email is no address that the authority takes",
    "serverInternal": "the authority has trouble of its own; later it will go",
}
# Where no name stands beside them, they speak of the account.
OF_A_NAME = ("connection", "unauthorized", "dns", "caa")
# What the certbot of Debian 12 says in place of the authority's words, which its log has.
LOST = "can't set attribute"
FORGOTTEN = "accountDoesNotExist"
# The end of Python's own words, where there was no answer at all.
UNREACHED = {
    "CERTIFICATE_VERIFY_FAILED": "the host does not trust the authority's own certificate: site_ca_certificates",
    "NameResolutionError": "the host cannot find the authority's name",
    "Failed to resolve": "the host cannot find the authority's name",
    "Name or service not known": "the host cannot find the authority's name",
    "Connection refused": "nothing answers at nginx_acme_directory",
    "Max retries exceeded": "the authority is away, or a firewall lets this host not out",
    "timed out": "the authority is away, or a firewall lets this host not out",
}
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
# Longer than certbot waits for an authority that does not answer.
ASK_SECONDS = 240
# Where nginx has key and chain in one file, and the chain for whoever trusts it: as `site_certificate` puts them.
NGINX = Path("/etc/nginx")
# certbot's own name for what it keeps.
LINEAGE = "site"


class AcmeError(Exception):
    """There is no (new) certificate; the message says why."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        directory: address of the authority.
        names: for which the certificate must be, the site's own first.
    """

    directory: str
    names: list[str]


def run(*command: str) -> tuple[int, str]:
    """Run a command; return its status and all that it said."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def lifetime(file: Path) -> tuple[datetime, datetime] | None:
    """Return from when to when a certificate is valid, None where there is none."""
    _, said = run("openssl", "x509", "-in", str(file), "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601")
    found = re.search(r"notBefore=(\S+) (\S+)Z\nnotAfter=(\S+) (\S+)Z", said)
    if not found:
        return None
    begin, end = (datetime.fromisoformat(f"{found[at]}T{found[at + 1]}+00:00") for at in (1, 3))
    return begin, end


def due(folder: Path, wanted: Wanted, now: datetime) -> str:
    """Return why a certificate must be asked for, empty where there is one that will do.

    A third of its life before its end: whatever an authority thinks is a life, there is time to try again.

    Args:
        folder: where it is kept.
        wanted: what is asked for.
        now: the time.
    """
    valid = lifetime(folder / "live" / LINEAGE / "fullchain.pem")
    record = folder / "asked.json"
    if valid is None or not record.exists():
        return "there is none"
    if json.loads(record.read_text()) != asdict(wanted):
        return "it was for other names, or of another authority"
    begin, end = valid
    return f"it ends at {end:%F %T} UTC" if end - now < (end - begin) / 3 else ""


def refusals_in(log: Path) -> list[tuple[str, str]]:
    """Return what the authority called its refusals and said, by the log of certbot's last run, the last first."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return re.findall(r"urn:ietf:params:acme:error:(\w+)(?: :: .* :: (.+))?", text)[::-1]


def reason(said: str, refusals: list[tuple[str, str]]) -> str:
    """Return what certbot said in one line: the authority's words, and what is most likely wrong.

    Args:
        said: by certbot.
        refusals: what the authority called them and said; certbot itself tells it for those of a name only.
    """
    refused = re.findall(r"Domain: +(\S+)\n +Type: +(\S+)\n +Detail: +(.+)", said)
    words = "; ".join(f"{name}: {detail} ({kind})" for name, kind, detail in refused)
    kinds = [kind for _, kind, _ in refused] or [kind for kind, _ in refusals[:1] if kind not in OF_A_NAME]
    if not refused:
        _, _, after = said.rpartition("An unexpected error occurred:\n")
        lines = [line.strip() for line in after.splitlines() if line.strip() and not is_chatter(line)]
        words = " ".join(lines[:3]) or "certbot said nothing"
        if LOST in words and refusals:
            words = refusals[0][1] or refusals[0][0]
    causes = [CAUSES[kind] for kind in dict.fromkeys(kinds) if kind in CAUSES]
    if not causes and "Unable to register an account" in said:
        causes = [CAUSES["externalAccountRequired"]]
    causes = causes or [cause for sign, cause in UNREACHED.items() if sign in said][:1]
    return words.rstrip(".") + (f". Most likely {', or '.join(causes)}" if causes else "")


def is_chatter(line: str) -> bool:
    """Say whether a line of certbot's is for those only who sit before it."""
    return line.startswith(("Saving debug log", "Ask for help", "Account registered", "Requesting a certificate"))


def ask(wanted: Wanted, folder: Path, webroot: Path, given: Mapping[str, str]) -> tuple[int, str]:
    """Let certbot get a certificate; return its status and what it said.

    Args:
        wanted: what is asked for.
        folder: where certbot keeps what it has.
        webroot: what nginx shows on port 80.
        given: the environment, with what the authority wants to know of us.
    """
    options = {
        "agree-tos": "true",
        "cert-name": LINEAGE,
        "config-dir": str(folder),
        "domains": ",".join(wanted.names),
        "force-renewal": "true",
        "key-type": "ecdsa",
        "logs-dir": str(folder / "logs"),
        "max-log-backups": "5",
        "non-interactive": "true",
        "renew-with-new-domains": "true",
        "server": wanted.directory,
        "webroot": "true",
        "webroot-path": str(webroot),
        "work-dir": str(folder / "work"),
    }
    options |= (
        {"email": given["ACME_EMAIL"]} if given.get("ACME_EMAIL") else {"register-unsafely-without-email": "true"}
    )
    if given.get("ACME_EAB_KEY_ID"):
        options |= {"eab-kid": given["ACME_EAB_KEY_ID"], "eab-hmac-key": given["ACME_EAB_KEY"]}
    # A file that only its owner may read, in place of the system's: a command line can be read by everybody.
    with tempfile.NamedTemporaryFile("w", suffix=".ini") as file:
        file.write("".join(f"{name} = {value}\n" for name, value in options.items()))
        file.flush()
        return run("timeout", str(ASK_SECONDS), "certbot", "certonly", "--config", file.name)


def get(environment: Mapping[str, str]) -> str:
    """Get a certificate where one is due; return what came of it.

    Raises:
        AcmeError: there is none to be had.
    """
    wanted = Wanted(environment["ACME_DIRECTORY"], environment["ACME_NAMES"].split())
    folder, webroot = Path(environment["STATE_DIRECTORY"]), Path(environment["RUNTIME_DIRECTORY"])
    why = due(folder, wanted, datetime.now(UTC))
    if not why:
        return "The certificate will do."
    print(f"A certificate is asked for at {wanted.directory}: {why}.", flush=True)
    code, said = ask(wanted, folder, webroot, environment)
    log = folder / "logs/letsencrypt.log"
    if code != 0 and FORGOTTEN in [kind for kind, _ in refusals_in(log)]:
        # It has lost what it knew of us, or does not want us any more: we are a new customer.
        shutil.rmtree(folder / "accounts")
        code, said = ask(wanted, folder, webroot, environment)
    print(said, flush=True)
    if code != 0:
        waited = (
            f"{wanted.directory} has not answered within {ASK_SECONDS} s"
            if code == 124
            else reason(said, refusals_in(log))
        )
        raise AcmeError(f"There is no new certificate: {waited}.")
    (folder / "asked.json").write_text(json.dumps(asdict(wanted)))
    return "There is a new certificate."


def faults_of(pair: Path, names: list[str]) -> str:
    """Return what is wrong with a file of a key and its chain that should be for names, empty for nothing."""
    made_for = run("openssl", "x509", "-in", str(pair), "-noout", "-pubkey")
    public = run("openssl", "pkey", "-in", str(pair), "-pubout", "-passin", "pass:")
    if made_for != public or made_for[0] != 0:
        return "it does not fit its key"
    if run("openssl", "x509", "-in", str(pair), "-noout", "-checkend", "0")[0] != 0:
        return "it has ended already, or the clock of the host is wrong"
    check = ("openssl", "x509", "-in", str(pair), "-noout", "-checkhost")
    missing = [name for name in names if "does match" not in run(*check, name)[1]]
    return f"it is not for {', '.join(missing)}" if missing else ""


def write(file: Path, text: str, mode: int) -> None:
    """Write a file in one step, so that nginx never reads half of it."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        os.fchmod(descriptor, mode)
        stream.flush()
        os.fsync(descriptor)
    Path(name).replace(file)


def install(environment: Mapping[str, str], nginx: Path = NGINX) -> str:
    """Give nginx the certificate that is there, and let it read that while it serves; return what came of it.

    The other account owns what is read here. It can bring nginx a bad pair, and nothing that is no pair.

    Raises:
        AcmeError: it cannot be used, and nginx has the one before.
    """
    live = Path(environment["STATE_DIRECTORY"]) / "live" / LINEAGE
    chain = "".join(CERTIFICATE.findall((live / "fullchain.pem").read_text()))
    word = environment.get("ACME_SITE", "site")
    pair, alone = nginx / f"{word}.pem", nginx / f"{word}.crt"
    text, before = (live / "privkey.pem").read_text() + chain, pair.read_text()
    # The second file is written last: where it is not of this pair, nobody has got so far.
    if text == before and chain == alone.read_text():
        return f"The certificate lasts until {lifetime(alone)[1]:%F %T} UTC."  # type: ignore[index]  # read above
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        if fault := faults_of(Path(file.name), environment["ACME_NAMES"].split()):
            raise AcmeError(f"The new certificate was not given to nginx: {fault}.")
    write(pair, text, 0o600)
    code, said = run("nginx", "-t", "-q")
    if code != 0:
        write(pair, before, 0o600)
        raise AcmeError(f"The new certificate was not given to nginx, which does not take its files: {said.strip()}")
    code, said = run("systemctl", "try-reload-or-restart", "nginx.service")
    if code != 0:
        raise AcmeError(f"nginx has not read the new certificate: {said.strip()}")
    write(alone, chain, 0o644)
    return f"Nginx has a new certificate, until {lifetime(alone)[1]:%F %T} UTC."  # type: ignore[index]


def main() -> None:
    """Run one of the two."""
    try:
        print({"get": get, "install": install}[sys.argv[1]](os.environ))
    except AcmeError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
