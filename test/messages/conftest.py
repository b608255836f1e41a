"""Examples take as long as a busy machine lets them; the first one loads type support too."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile('unhurried', deadline=None)
settings.load_profile('unhurried')
