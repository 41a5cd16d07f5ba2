"""Projects of strangers; what `stack.upgrading` has for figures, and no machine of it."""

pytest_plugins = ["stack.upgrading"]
