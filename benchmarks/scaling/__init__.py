"""What it takes to serve more: replicas, cost, and a simulation of the autoscaler, from measured figures."""
