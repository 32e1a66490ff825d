"""Pure algorithms on small arrays: no models, no network, no clock."""
