"""Grafana dashboards as code: what each screen asks, how it is drawn, and how it reaches a Grafana."""
