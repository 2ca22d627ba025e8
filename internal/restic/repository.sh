# What all containers of restic begin with: the credentials, and how a failure is told.
set -u
umask 077
# When the pod began: its first container writes it down.
[ -e /scratch/started ] || date +%s >/scratch/started

# Credentials are files: no argument shows them, and no description of the Pod.
for file in /credentials/*; do
  name=${file##*/}
  case $name in
    RESTIC_REPOSITORY | [0-9]* | *[!A-Za-z0-9_]*) ;; # the latter are no names of variables
    *) export "$name=$(cat "$file")" ;;
  esac
done
[ ! -e /credentials/ca.crt ] || export RESTIC_CACERT=/credentials/ca.crt
if [ -e /credentials/tls.crt ] && [ -e /credentials/tls.key ]; then
  (cat /credentials/tls.crt && echo && cat /credentials/tls.key) >/tmp/client.pem
  export RESTIC_TLS_CLIENT_CERT=/tmp/client.pem
fi

# For a server that speaks SFTP restic starts the command ssh, which takes its key from a file of the user alone.
if [ -e /credentials/ssh-privatekey ]; then
  mkdir -p /tmp/bin
  (cat /credentials/ssh-privatekey && echo) >/tmp/ssh-privatekey
  cat >/tmp/bin/ssh <<EOF
#!/bin/sh
exec $(command -v ssh) -F none -i /tmp/ssh-privatekey -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 \
  -o StrictHostKeyChecking=yes -o UserKnownHostsFile=/credentials/known_hosts -o GlobalKnownHostsFile=none "\$@"
EOF
  chmod 700 /tmp/bin/ssh
  export PATH="/tmp/bin:$PATH"
fi

# The repository's options go with every command.
if [ -n "${OPTIONS:-}" ]; then
  mkdir -p /tmp/bin
  # shellcheck disable=SC2016 # the arguments are those of the command
  printf '#!/bin/sh\nexec %s %s "$@"\n' "$(command -v restic)" "$OPTIONS" >/tmp/bin/restic
  chmod 700 /tmp/bin/restic
  export PATH="/tmp/bin:$PATH"
fi

# The last words of a container that fails are what its Pod says.
fail() {
  [ ! -s /tmp/error ] || tail -n 3 /tmp/error >&2
  echo "$*" >&2
  exit 1
}

# Kubernetes ends a Job at its deadline, and takes what it has to say along: restic, which may try for a quarter of an hour, ends
# before, unless the pod came late or is not the first of its Job.
restic() { timeout "$(left)" restic "$@"; }

# left is how many seconds it has.
left() {
  seconds=$(($(cat /scratch/started) + DEADLINE - 15 - $(date +%s)))
  echo $((seconds > 1 ? seconds : 1))
}

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# open_repository tells apart what may be wrong with the repository. $1 is "new" where one may be
# made: otherwise one that is gone is an error.
#
# restic itself goes on trying for a quarter of an hour where nobody answers, and gives up at once
# where a connection is refused: both are given two minutes, or what is left of them. Without a lock:
# one that a Job has left which was killed must not keep the next ones out.
open_repository() {
  may=$(left)
  may=$((may < 120 ? may : 120))
  until=$(($(date +%s) + may))
  while :; do
    may=$((until - $(date +%s)))
    [ $may -gt 0 ] || fail "The repository does not answer."
    timeout $may restic --no-cache --no-lock cat config >/dev/null 2>/tmp/error
    code=$?
    case $code in
      0) return ;;
      10)
        [ "$1" = new ] || fail "There is no repository there."
        restic --no-cache init >/dev/null 2>/tmp/error || fail "There is no repository, and it cannot be made."
        return
        ;;
      12) fail "The password is not that of the repository." ;;
    esac
    if [ "$(date +%s)" -lt "$until" ]; then
      ! grep -qiE 'host key verification failed|permission denied|could not resolve' /tmp/error || fail "The repository cannot be opened."
      grep -qiE 'connection refused|connection reset|unreachable|timeout|EOF' /tmp/error || fail "The repository cannot be opened."
      sleep 3
    fi
  done
}

# unlock removes the locks of Jobs that were killed, after half an hour.
unlock() { restic --no-cache unlock >/dev/null 2>&1; }
