"""The `linear` strategy through Mitogen where it is installed, and plain `linear` where it is not.

Ansible loads strategy plugins under a name of its own making; Mitogen's classes must be imported
under their real one, or they exist twice. Hence this small stand-in, which also spares ansible.cfg
a path into a virtualenv.
"""

from ansible.plugins.strategy.linear import StrategyModule as LinearStrategy

try:
    from ansible_mitogen import planner
    from ansible_mitogen.strategy import StrategyMixin
except ImportError:

    class StrategyMixin:  # type: ignore[no-redef]
        """Nothing to add: without Mitogen this is Ansible's own strategy."""
else:
    # Before each task with a module of a collection, Mitogen would read the manifests of all collections that there
    # are, a hundred and more, to add their folders to a path: a third of a run's work. Its imports go through
    # Ansible's own finder, which needs no path.
    planner._load_collections = lambda invocation: None


class StrategyModule(StrategyMixin, LinearStrategy):
    """One task at a time over all hosts, as `linear`."""
