"""Everything that an installation without a way out needs, in one folder that can be checked where it arrives."""
