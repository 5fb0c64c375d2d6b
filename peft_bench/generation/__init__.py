"""How answers are made inside the harness' own model: what beams and samples share."""
