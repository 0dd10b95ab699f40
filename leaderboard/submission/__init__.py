"""Submissions: records that others want published, checked without running their code."""
