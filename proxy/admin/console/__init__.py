"""The web console at "/": pages for people, made on the server."""
