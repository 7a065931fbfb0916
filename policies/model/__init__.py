"""The nouns shared by every package: frozen values, integers only, one word per idea."""
