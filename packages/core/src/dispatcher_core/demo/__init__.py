"""``dispatcher demo``: a job's whole path on real input, on this machine alone."""
