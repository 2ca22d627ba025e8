#!/bin/sh
# Generates docs/ from the provider's schema, templates/, and examples/.
#
#   docs.sh [--check] CLI
#
# CLI is terraform or tofu. With --check, the script writes nothing, and fails if
# docs/ is not up to date. Everything in docs/ is generated. Text that people
# write, such as a guide, belongs in templates/.
#
# This needs no registry: the CLI gets the provider, which is built here, as a
# development override.
set -eu

check=
if [ "${1-}" = --check ]; then
	check=1
	shift
fi
if [ $# -ne 1 ]; then
	echo "usage: docs.sh [--check] CLI" >&2
	exit 2
fi
cli=$(command -v "$1") || {
	echo "docs.sh: $1: no such program" >&2
	exit 1
}
case $cli in
/*) ;;
*) cli=$PWD/$cli ;;
esac
cd "$(dirname "$0")/../.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

mkdir "$tmp/plugin" "$tmp/config" "$tmp/site"
go build -buildvcs=false -o "$tmp/plugin/terraform-provider-consul-k8s" .

source=registry.terraform.io/consul-k8s/consul-k8s
cat >"$tmp/cli.tfrc" <<EOF
provider_installation {
  dev_overrides {
    "$source" = "$tmp/plugin"
  }
}
EOF
cat >"$tmp/config/main.tf" <<EOF
terraform {
  required_providers {
    consul = { source = "$source" }
  }
}
EOF
(
	cd "$tmp/config"
	CHECKPOINT_DISABLE=1 TF_CLI_CONFIG_FILE="$tmp/cli.tfrc" "$cli" providers schema -json
) >"$tmp/schema.json"

# tfplugindocs looks for the schema under the name of the provider, which it also
# takes for the prefix of the resource types. Here, the prefix is consul_k8s.
sed "s|\"$source\"|\"consul_k8s\"|" "$tmp/schema.json" >"$tmp/renamed.json"

docs() {
	command=$1
	shift
	go tool -modfile=internal/tools/go.mod tfplugindocs "$command" --provider-dir "$tmp/site" \
		--provider-name consul_k8s --providers-schema "$tmp/renamed.json" "$@" >"$tmp/log" 2>&1 || {
		cat "$tmp/log" >&2
		exit 1
	}
}
cp -R templates examples "$tmp/site"
for kind in resources data-sources ephemeral-resources; do # all share one template
	cp templates/page.md.tmpl "$tmp/site/templates/$kind.md.tmpl"
done
rm "$tmp/site/templates/page.md.tmpl"
docs generate --rendered-provider-name consul-k8s
docs validate

if [ -z "$check" ]; then
	rm -rf docs
	cp -R "$tmp/site/docs" docs
elif ! diff -ruN docs "$tmp/site/docs"; then
	echo "docs.sh: docs/ is not up to date: generate it again" >&2
	exit 1
fi
