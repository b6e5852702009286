"""Sweeps of NVIDIA's perf_analyzer over the ensemble and each step, with real texts: `scripts/perf-analyzer`."""
