"""Training, evaluation, and the record of a run. Import from the files: `config` works without torch."""
