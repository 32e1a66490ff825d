"""Who may call: TLS, certificates and keys."""
