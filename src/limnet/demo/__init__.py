"""The demonstration: a robot user segments five structures of a real CT and a report shows how it went."""
