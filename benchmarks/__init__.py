"""Measurements that anyone can repeat: `scripts/bench` and `scripts/perf-analyzer`. See docs/benchmarks.md."""
