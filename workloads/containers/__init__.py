"""Arrays out of files from strangers: nothing is executed, and nothing is allocated that the file can't hold."""
