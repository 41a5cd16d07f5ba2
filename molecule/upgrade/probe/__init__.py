"""An app that the tests add to a copy of the project: tasks that write down where they ran, and ways to send them."""
