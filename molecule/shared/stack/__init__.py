"""What the tests of deployed stacks share: a shell on the host, a browser, a run of the playbook."""
