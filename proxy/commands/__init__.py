"""The commands of smpp-proxy, one file for each kind; cli.py puts them together."""
