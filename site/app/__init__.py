"""Posts with a counter, the tasks that work on them, and the pages that show them."""
