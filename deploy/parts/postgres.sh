#!/bin/sh
# What the official image's entrypoint does, as far as docker-compose.yml needs it: makes the database once, then runs.
set -eu
programs=$(echo /usr/lib/postgresql/*/bin)
export PGDATA=/var/lib/postgresql/data/cluster
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  "$programs/initdb" --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 --encoding=UTF8
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB" | "$programs/postgres" --single -D "$PGDATA" postgres >/dev/null
fi
exec "$programs/postgres" -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp
