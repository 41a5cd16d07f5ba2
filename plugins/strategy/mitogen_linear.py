"""The `linear` strategy through Mitogen where it is installed, and plain `linear` where it is not.

Ansible loads strategy plugins under a name of its own making; Mitogen's classes must be imported
under their real one, or they exist twice. Hence this small stand-in, which also spares ansible.cfg
a path into a virtualenv.
"""

from __future__ import annotations

from ansible.executor.play_iterator import PlayIterator
from ansible.playbook.block import Block
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
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


# Checks all that an inventory chooses, by the roles' own argument specs, and more.
PREFLIGHT = "celeriac.site.site_preflight"
# Comes before the tasks of each role that has such a spec: Ansible's own doing.
VALIDATION = "ansible.builtin.validate_argument_spec"
COLLECTION = "celeriac.site"


def is_validation(task: Task | Block) -> bool:
    """Whether this is how Ansible validates the arguments of a role of ours."""
    return isinstance(task, Task) and task.action == VALIDATION and task._role._role_collection == COLLECTION


class StrategyModule(StrategyMixin, LinearStrategy):
    """One task at a time over all hosts, as `linear`."""

    # Each play has an instance of its own; the class is one for all plays of a run.
    _passed = False

    def run(self, iterator: PlayIterator, play_context: PlayContext) -> int:
        """Run a play.

        Each task has a process of its own, a copy of this one. What templates call is loaded here, once: else each of
        them would load it anew. Where preflight has passed in this run, no role validates its arguments again: in
        `site.yml` that was one task in five.
        """
        for plugins in (loader.filter_loader, loader.test_loader):
            list(plugins.all())
        make_lighter()
        tasks = [task for block in iterator._blocks for task in block.block]
        if StrategyModule._passed:
            for block in iterator._blocks:
                block.block = [task for task in block.block if not is_validation(task)]
        code: int = super().run(iterator, play_context)
        if code == self._tqm.RUN_OK and any(getattr(task, "action", "") == PREFLIGHT for task in tasks):
            StrategyModule._passed = True
        return code
