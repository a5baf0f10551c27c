"""The version, and the notice that everything made for people begins with."""

# The version of the package.
__version__ = "0.1.0"

# What everything that is made for people to look at begins with.
NOTICE = "For research use only. Not a medical device."
