# Starts Consul.
set -eu

# The stop hook ends it (leave.sh): not being the first process of its PID namespace, it
# can be killed from within.
echo $$ >/tmp/pid
exec consul "$@"
