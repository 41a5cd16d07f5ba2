"""Its schema."""
