"""Price lists as data files, one per hardware model."""
