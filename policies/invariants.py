"""A second program that checks every plan before it is carried out."""
