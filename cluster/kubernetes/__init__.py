"""The Kubernetes API as the platform needs it: plain objects, typed refusals, watched copies, one leader."""
