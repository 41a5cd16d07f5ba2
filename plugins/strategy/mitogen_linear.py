"""The `linear` strategy through Mitogen where it is installed, and plain `linear` where it is not.

Ansible loads strategy plugins under a name of its own making; Mitogen's classes must be imported
under their real one, or they exist twice. Hence this small stand-in, which also spares ansible.cfg
a path into a virtualenv.
"""

from __future__ import annotations

from ansible.executor.play_iterator import PlayIterator
from ansible.playbook.play_context import PlayContext
from ansible.plugins import loader
from ansible.plugins.strategy.linear import StrategyModule as LinearStrategy
from ansible_collections.celeriac.site.plugins.plugin_utils.lighter import make_lighter

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

    def run(self, iterator: PlayIterator, play_context: PlayContext) -> int:
        """Run a play.

        Each task has a process of its own, a copy of this one. What templates call is loaded here, once: else each of
        them would load it anew.
        """
        for plugins in (loader.filter_loader, loader.test_loader):
            list(plugins.all())
        make_lighter()
        code: int = super().run(iterator, play_context)
        return code
