"""What the tests of the runtime, of the site and of deployed hosts share: servers, a browser, waits.

waiting     wait for something to become true, and no longer
ports       a TCP port for a server
"""
