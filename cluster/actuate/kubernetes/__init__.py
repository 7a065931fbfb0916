"""Plans made true on Kubernetes: worker pods through KubeRay, scrubs through the node's agent."""
