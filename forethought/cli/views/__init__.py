"""What commands show of an answer."""
