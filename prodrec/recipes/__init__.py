"""The recipes that come with prodrec, one YAML file each."""
