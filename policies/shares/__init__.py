"""How much each tenant may hold of each flavor."""
