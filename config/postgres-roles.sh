#!/bin/sh
# Run once by the image of PostgreSQL, on an empty cluster: the owner migrates, the application has what
# migrations grant and no more. Neither may create roles or databases.
set -eu
psql -v ON_ERROR_STOP=1 -v owner="$OWNER_PASSWORD" -v app="$APP_PASSWORD" --username postgres <<'SQL'
CREATE ROLE tallystick_owner LOGIN PASSWORD :'owner';
CREATE ROLE tallystick_app LOGIN PASSWORD :'app';
CREATE DATABASE tallystick OWNER tallystick_owner;
SQL
