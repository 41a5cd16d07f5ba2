"""What the tests of the runtime, of the site and of deployed hosts share: servers, a browser, waits.

Each server is a real one, on a port or socket and in a directory of its own. The computer's own services are never
touched, and nothing is skipped: a program that is not installed is an error, which names the package to install.

    waiting     wait for something to become true, and no longer
    ports       a TCP port for a server
    programs    find a program, or name the package that has it
    redis       redis-server
    postgresql  a cluster of PostgreSQL
    rabbitmq    RabbitMQ
    browser     Chromium, and what keeps people out of a page
    endings     a run that is killed takes its servers with it
"""
