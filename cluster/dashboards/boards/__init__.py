"""The dashboards, one file each: what is asked, in which order, in which words."""
