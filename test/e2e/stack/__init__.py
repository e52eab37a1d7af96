"""What the end-to-end tests run: a Kubernetes control plane, a hub and EdgeCores, all real."""
