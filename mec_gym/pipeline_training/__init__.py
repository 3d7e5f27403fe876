"""Pipeline training: one model cut over devices that come and go."""
