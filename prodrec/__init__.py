"""prodrec: visual product recognition at catalogue scale, on Ray."""
