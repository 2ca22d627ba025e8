#!/bin/sh
# Applies or destroys the configuration in this folder, on the local cluster or on the
# cluster of KUBE_CONFIG_PATH. The state and the plugins are in .local/quickstart of the
# repository.
#
#   quickstart.sh up|down
set -eu
cd "$(dirname "$0")/../.."
root=$PWD
work=$root/.local/quickstart
local="go run ./internal/proof/localcluster/cmd/localcluster"

if [ -z "${KUBE_CONFIG_PATH-}" ]; then
	if [ "$1" = down ] && [ ! -f .local/kubeconfig ]; then
		echo "nothing to destroy: there is no local cluster of this checkout"
		exit 0
	fi
	# A build of Consul takes minutes: build only the declared versions, and none to destroy them.
	consul=-consul=
	if [ "$1" = up ]; then
		versions=$(sed -n '/^resource "consul_k8s_cluster"/,/^}/s/^ *version *= *"\([0-9][^"]*\)".*/\1/p' examples/quickstart/*.tf | paste -s -d , -)
		consul=${versions:+-consul=$versions} # without a literal version, any may be needed
	fi
	KUBE_CONFIG_PATH=$($local up -kubeconfig "$root/.local/kubeconfig" ${consul:+"$consul"})
	export KUBE_CONFIG_PATH
fi
cli=$($local cli -minimum 1.2.0) # the first version with postconditions
make --no-print-directory -s build

# A mirror of this provider, so that init needs no registry.
plugin=$work/mirror/registry.terraform.io/consul-k8s/consul-k8s/0.0.1/$(go env GOOS)_$(go env GOARCH)
mkdir -p "$plugin"
cp bin/terraform-provider-consul-k8s "$plugin/terraform-provider-consul-k8s_v0.0.1"
cp examples/quickstart/*.tf "$work/"
cat >"$work/cli.tfrc" <<EOF
disable_checkpoint = true
provider_installation {
  filesystem_mirror {
    path = "$work/mirror"
  }
}
EOF
export TF_CLI_CONFIG_FILE="$work/cli.tfrc" TF_IN_AUTOMATION=1
cd "$work"
rm -f .terraform.lock.hcl # every build has the same version
"$cli" init -input=false >init.log 2>&1 || { cat init.log; exit 1; }

case $1 in
up)
	"$cli" apply -input=false -auto-approve
	namespace=$("$cli" output -json token_secret | sed 's/.*"namespace":"\([^"]*\)".*/\1/')
	secret=$("$cli" output -json token_secret | sed 's/.*"name":"\([^"]*\)".*/\1/')
	kubectl="kubectl --kubeconfig $KUBE_CONFIG_PATH"
	command -v kubectl >/dev/null || kubectl="go run -C $root ./internal/proof/localcluster/cmd/localcluster kubectl"
	cat <<EOF

Consul runs. The management token is in Secret $namespace/$secret:

  $kubectl get secret --namespace $namespace $secret --output go-template='{{.data.token | base64decode}}{{"\\n"}}'

The web interface, then at http://127.0.0.1:8500/ui:

  $kubectl port-forward --namespace $namespace service/consul 8500

Change examples/quickstart/main.tf and run make quickstart again, or destroy all of it with make quickstart-down.
EOF
	;;
down)
	"$cli" destroy -input=false -auto-approve
	;;
*)
	echo "usage: quickstart.sh up|down" >&2
	exit 2
	;;
esac
