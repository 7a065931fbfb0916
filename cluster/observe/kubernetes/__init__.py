"""What a Kubernetes cluster says of nodes, devices and workers, as a Snapshot."""
