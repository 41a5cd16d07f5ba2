"""The `linear` strategy through Mitogen where it is installed, and plain `linear` where it is not.

Ansible loads strategy plugins under a name of its own making; Mitogen's classes must be imported
under their real one, or they exist twice. Hence this small stand-in, which also spares ansible.cfg
a path into a virtualenv.
"""

from ansible.plugins.strategy.linear import StrategyModule as LinearStrategy

try:
    from ansible_mitogen.strategy import StrategyMixin
except ImportError:

    class StrategyMixin:  # type: ignore[no-redef]
        """Nothing to add: without Mitogen this is Ansible's own strategy."""


class StrategyModule(StrategyMixin, LinearStrategy):
    """One task at a time over all hosts, as `linear`."""
