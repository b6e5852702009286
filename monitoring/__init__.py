"""How the service is watched: Prometheus' rules, Grafana's dashboard, the way of the logs into Elasticsearch."""
