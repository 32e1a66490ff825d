"""What a deployment does under load: measuring, without a command line."""
