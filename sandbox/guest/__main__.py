"""`python -m guest`: what a sandbox starts."""

from .zygote import main

main()
