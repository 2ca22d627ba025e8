# Starts Consul, with the gossip keys of the Secret: Consul itself takes those that it
# has on disk, which are old ones where they were rotated while the server was away. A
# Secret that is as it was at the last start may itself be old, because it reaches the
# pod with delay: then those on disk are newer. Without a Secret it has none.
set -eu
ring=/consul/data/serf/local.keyring
if [ -e /consul/gossip/keyring ]; then
  if [ ! -s "$ring" ] || ! cmp -s /consul/gossip/keyring "$ring.secret"; then
    (umask 077 && mkdir -p /consul/data/serf && cp /consul/gossip/keyring "$ring.new")
    cp -p "$ring.new" "$ring.secret.new"
    mv "$ring.new" "$ring"
    mv "$ring.secret.new" "$ring.secret"
  fi
else
  rm -f "$ring" "$ring.secret"
fi

# The stop hook ends it (leave.sh): not being the first process of its PID namespace, it
# can be killed from within.
echo $$ >/tmp/pid
exec consul "$@"
