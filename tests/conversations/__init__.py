"""Conversations between clients, a Nextcloud and the gateway, as files; see README.md."""
