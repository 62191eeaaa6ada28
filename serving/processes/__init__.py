"""The server's processes and the HTTP server in each."""
