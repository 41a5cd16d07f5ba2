"""Make bare Debian machines on this computer, for the demo, the tests and the benchmark.

A machine is a real Debian with systemd as PID 1, started by systemd-nspawn. It has an address of its own on a
private bridge and is reached over SSH, like the bare host that it stands for. Only its kernel is this computer's.

What can be looked up is not remembered: the process list says which machines run, the kernel which bridges and
subnets exist. So a command that was killed half-way is mended by the next `up` or `down --all`.

    <checkout>/.machines/       SSH key, hosts/NAME/ (its disk, console.log), snapshots/NAME/
    /var/cache/celeriac/        base images, shared by all checkouts; safe to delete
    /run/celeriac-machines.*    locks, and the setting to restore when the last machine goes

Only the standard library, and Debian's own python3: it runs before there is a virtual environment. Each module imports
only from those above it.

    errors shell files locks    what the others are made of
    computer                    this computer: root, tools, name servers
    images                      base images
    checkout machine            the machines of this checkout, and where their files are
    network                     their bridge, subnet and way out
    identity                    what makes a copy of an image this machine
    cgroups power               start and stop
    ssh                         log in, and wait for it
    snapshots                   copies of a machine's disk
    commands command_line       what a person types: bin/machine
"""
