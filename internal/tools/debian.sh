#!/bin/sh
# Installs the Debian packages whose commands are missing on this machine.
#
#   debian.sh COMMAND=PACKAGE...
#
# This needs root and apt-get. Without them, it says what to install, and fails.
set -eu

missing=
for pair in "$@"; do
	command -v "${pair%%=*}" >/dev/null || missing="$missing ${pair#*=}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "debian.sh: missing Debian packages: apt-get install$missing" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # one argument for each package
apt-get install -qq -y --no-install-recommends $missing
