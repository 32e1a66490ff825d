"""No draft comes along, so that there is a draft tier."""
