"""What is run, how it is run, what is remembered."""
