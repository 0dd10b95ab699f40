"""The named data sets: read, checked, downloaded."""
