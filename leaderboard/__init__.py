"""What the records say: tables, statistics and plots."""
