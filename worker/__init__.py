"""The worker: a Celery application that is woken by messages, and claims gradings in the database."""
