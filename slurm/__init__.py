"""Many runs at once, on a cluster."""
