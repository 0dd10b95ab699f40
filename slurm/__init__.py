"""Submit sweeps to a SLURM cluster and run their jobs on its nodes."""
