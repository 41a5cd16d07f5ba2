"""The app of the test project."""
