"""Sessions that outlive the process that generates them."""
