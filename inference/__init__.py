"""What happens to an image between its file and the network's answer."""

import environment  # noqa: F401
