"""The checks of a submission: one record, its provenance, its files, and records together."""
