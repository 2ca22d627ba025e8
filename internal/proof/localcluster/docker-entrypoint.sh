#!/bin/sh
set -e
if [ "$1" = agent ]; then
  shift
  set -- consul agent -data-dir=/consul/data -config-dir=/consul/config "$@"
elif [ "${1#-}" != "$1" ] || consul --help "$1" 2>&1 | grep -q "consul $1"; then
  set -- consul "$@"
fi
exec "$@"
