"""Checks of what deploys the service: Dockerfiles, Compose, Kubernetes manifests. See scripts/check-deploy."""
