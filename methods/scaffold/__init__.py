"""Templates of a package for a new method, which installs and passes the conformance cases."""
