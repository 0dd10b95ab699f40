"""The store: records, leases and failures of runs in a folder on any file system."""
