package cluster_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// Bad input is refused at plan, before any request to a cluster: the provider block here points to no cluster. Each
// message says what to do.
func TestAccCluster_badInput(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	with := func(attributes string) string {
		return fmt.Sprintf("name = \"consul\"\nnamespace = \"ns\"\nversion = \"1.22.7\"\n%s", attributes)
	}
	tests := map[string]struct{ attributes, want string }{
		"even replicas":         {with(`replicas = 4`), `4 servers survive the loss of no more servers than 3 do`},
		"zero replicas":         {with(`replicas = 0`), "0 servers are not possible: use 1, 3, 5, or 7"},
		"too many replicas":     {with(`replicas = 9`), "9 servers are not possible"},
		"version without patch": {"name = \"a\"\nnamespace = \"b\"\nversion = \"1.22\"", "not a semantic version of three numbers"},
		"version no semver":     {"name = \"a\"\nnamespace = \"b\"\nversion = \"latest\"", "not a semantic version of three numbers"},
		"version with v":        {"name = \"a\"\nnamespace = \"b\"\nversion = \"v1.22.7\"", "not a semantic version of three numbers"},
		"version with metadata": {"name = \"a\"\nnamespace = \"b\"\nversion = \"1.22.7+build\"", "not a semantic version of three numbers"},
		"version of Enterprise": {"name = \"a\"\nnamespace = \"b\"\nversion = \"1.22.7-ent\"", `version: "1.22.7-ent" is Consul Enterprise`},
		"image of Enterprise":   {with(`image = "hashicorp/consul-enterprise:1.22.7-ent"`), `such as "docker.io/hashicorp/consul:1.22.7"`},
		"image nearly agrees":   {"name = \"a\"\nnamespace = \"b\"\nversion = \"1.22.1\"\nimage = \"mirror/consul:1.22.10\"", "make them agree"},
		"version too old":       {"name = \"a\"\nnamespace = \"b\"\nversion = \"1.14.11\"", "older than 1.15.0"},
		"no version":            {"name = \"a\"\nnamespace = \"b\"", "set version"},
		"image without version": {
			"name = \"a\"\nnamespace = \"b\"\nimage = \"mirror/consul:prod\"",
			"set version to the Consul version in the image",
		},
		"image contradicts": {with(`image = "mirror/consul:1.21.0"`), "make them agree"},
		"image, no digest":  {with(`image = "mirror/consul:1.22.7@sha256:0a"`), "is not a digest"},
		"image in capitals": {with(`image = "mirror/Consul:1.22.7"`), "is not an image reference"},
		"image by digest alone": {
			"name = \"a\"\nnamespace = \"b\"\nimage = \"mirror/consul@sha256:" + strings.Repeat("0a", 32) + "\"",
			"set version to the Consul version in the image",
		},
		"name with capitals":    {"name = \"Consul\"\nnamespace = \"b\"\nversion = \"1.22.7\"", `Kubernetes would refuse "Consul"`},
		"name with digit first": {"name = \"1consul\"\nnamespace = \"b\"\nversion = \"1.22.7\"", `Kubernetes would refuse "1consul"`},
		"name too long": {
			"name = \"c123456789012345678901234567890123456789012345\"\nnamespace = \"b\"\nversion = \"1.22.7\"",
			"no more than 45 characters",
		},
		"namespace":          {"name = \"a\"\nnamespace = \"b_c\"\nversion = \"1.22.7\"", `Kubernetes would refuse "b_c"`},
		"storage size":       {with(`storage = { size = "ten" }`), `storage.size: "ten" is not a Kubernetes quantity`},
		"resources quantity": {with(`resources = { requests = { cpu = "half" } }`), `"half" is not a Kubernetes quantity`},
		"storage zero":       {with(`storage = { size = "0" }`), "must be more than zero"},
		"storage retention":  {with(`storage = { retention = { when_deleted = "keep" } }`), `"Retain" "Delete"`},
		"extra_config HCL":   {with(`extra_config = "log_level = \"debug\""`), `extra_config = jsonencode({ log_level = "debug" })`},
		"extra_config secret": {
			with(`extra_config = jsonencode({ services = [{ name = "a", token = "b" }] })`),
			`"services[0].token" (a secret`,
		},
		"storage class":       {with(`storage = { class = "Fast_1" }`), `storage.class: "Fast_1" would be refused by Kubernetes`},
		"extra_config list":   {with(`extra_config = "[]"`), "must be a JSON object"},
		"extra_config owned":  {with(`extra_config = jsonencode({ datacenter = "x" })`), "use the attribute datacenter"},
		"extra_config tokens": {with(`extra_config = jsonencode({ acl = { tokens = { agent = "x" } } })`), "consul_k8s_acl_bootstrap"},
		"duration":            {with(`performance = { leave_drain_time = "5" }`), `performance.leave_drain_time: "5" is not a duration`},
		"duration range": {
			with(`performance = { rpc_hold_timeout = "-1s" }`),
			`performance.rpc_hold_timeout: "-1s" must be a duration between 0s and 10m0s`,
		},
		"raft_multiplier": {with(`performance = { raft_multiplier = 11 }`), "between 1 and 10"},
		"default_policy": {
			with(`acl = { enabled = true, default_policy = "refuse" }`),
			`acl.default_policy: "refuse" is not possible: use "allow" or "deny"`,
		},
		"placement host": {
			with(`placement = { node_selector = { "kubernetes.io/hostname" = "n1" } }`),
			"The placement contradicts itself",
		},
		"placement toleration": {
			with(`placement = { tolerations = [{ key = "a", operator = "Exists", value = "b" }] }`),
			"remove value, or use operator Equal",
		},
		"placement no key": {with(`placement = { tolerations = [{ value = "b" }] }`), "Operator Equal needs a key"},
		"placement seconds": {
			with(`placement = { tolerations = [{ key = "a", operator = "Exists", effect = "NoSchedule", toleration_seconds = 1 }] }`),
			"applies only to effect NoExecute",
		},
		"placement spread":   {with(`placement = { topology_spread = [{ topology_key = "zone" }, { topology_key = "zone" }] }`), "keep one"},
		"placement affinity": {with(`placement = { anti_affinity = "none" }`), `"required" "preferred"`},
		"service ranges":     {with(`service = { load_balancer_source_ranges = ["10.0.0.0/8"] }`), `need type = "LoadBalancer"`},
		"resources": {
			with(`resources = { requests = { memory = "2Gi" }, limits = { memory = "1Gi" } }`),
			"raise the limit or lower the request",
		},
		"extra_config encrypt": {with(`extra_config = jsonencode({ encrypt = "x" })`), "use the attribute gossip.enabled"},
		"gossip key twice": {
			with(`gossip = { enabled = true, key_secret = { name = "a", key = "b" }, rotation = { trigger = "1" } }`),
			"leave rotation out",
		},
		"gossip key age": {
			with(`gossip = { enabled = true, rotation = { after = "5m" } }`),
			`gossip.rotation.after: "5m" must be a duration between 1h0m0s`,
		},
		"gossip own Secret": {
			with(`gossip = { enabled = true, key_secret = { name = "consul-gossip", key = "key" } }`),
			"give yours another name",
		},
		"gossip no namespace": {
			with("create_namespace = true\ngossip = { enabled = true, key_secret = { name = \"a\", key = \"b\" } }"),
			"The Secret cannot exist",
		},
		"gossip Secret": {with(`gossip = { enabled = true, key_secret = { name = "A_b", key = "c" } }`), `Kubernetes would refuse "A_b"`},
		"extra_config tls": {
			with(`extra_config = jsonencode({ tls = { https = { verify_incoming = true } } })`),
			"use the attribute tls.enabled",
		},
		"extra_config port": {with(`extra_config = jsonencode({ ports = { https = 8500 } })`), "use the attribute tls.https_port"},
		"tls algorithm": {
			with(`tls = { enabled = true, key_algorithm = "RSA-1024" }`),
			`tls.key_algorithm: "RSA-1024" is not possible: use "ECDSA-P256" or`,
		},
		"tls validity": {with(`tls = { enabled = true, validity = "10m" }`), `tls.validity: "10m" must be a duration between 1h0m0s`},
		"tls renewal": {
			with(`tls = { enabled = true, validity = "24h", renew_before = "48h" }`),
			"renew_before (48h) must be less than validity (24h)",
		},
		"tls CA validity": {
			with(`tls = { enabled = true, ca_validity = "8760h" }`),
			"ca_validity (8760h) must be at least twice validity (8760h)",
		},
		"tls CA twice": {with(`tls = { enabled = true, ca_secret = "a", ca_trigger = "1" }`), "leave ca_trigger out"},
		"tls no HTTPS": {with(`tls = { https_only = true }`), "https_only = true needs enabled = true"},
		"tls renewal part": {
			with(`tls = { enabled = true, renew_before = "95%" }`),
			`"95%" must be a duration of at least 1m, or a percentage of validity from "1%" to "90%"`,
		},
		"tls port":    {with(`tls = { enabled = true, https_port = 8300 }`), "Every server listens on 8300 for something else"},
		"tls version": {with(`tls = { enabled = true, min_version = "TLSv1_1" }`), "TLSv1_2"},
		"tls probes": {
			with(`tls = { enabled = true, https_only = true, verify_clients = true }`),
			"leave one of https_only and verify_clients out",
		},
		"tls two certificates": {with(`tls = { enabled = true, certificate_secret = "a", dns_names = ["a.example"] }`), "leave dns_names out"},
		"tls own Secret too":   {with(`tls = { enabled = true, certificate_secret = "consul-tls" }`), "give yours another name"},
		"tls own Secret":       {with(`tls = { enabled = true, ca_secret = "consul-ca" }`), "give yours another name"},
		"tls no namespace":     {with("create_namespace = true\ntls = { enabled = true, ca_secret = \"a\" }"), "The Secret cannot exist"},
		"tls name":             {with(`tls = { enabled = true, dns_names = ["a b"] }`), `"a b" is not a DNS name`},
		"tls name twice":       {with(`tls = { enabled = true, dns_names = ["a", "a"] }`), "duplicate"},
		"tls address":          {with(`tls = { enabled = true, ip_addresses = ["10.0.0.256"] }`), `"10.0.0.256" is not an IP address`},
		"labels reserved":      {with(`labels = { "app.kubernetes.io/name" = "x" }`), "leave it out"},
		"labels value":         {with(`pod_labels = { a = "b c" }`), `Kubernetes would refuse "b c"`},
		"datacenter":           {with(`datacenter = "DC 1"`), "lower-case letters"},
	}
	var refusals []acctest.Refusal
	for _, tt := range tests {
		refusals = append(
			refusals,
			acctest.Refusal{Config: "resource \"consul_k8s_cluster\" \"test\" {\n" + tt.attributes + "\n}\n", Says: tt.want},
		)
	}
	acctest.ExpectRefusals(t, `provider "consul" { host = "https://127.0.0.1:1" }`, refusals)
}

func TestAccCluster_importOfAWrongID(t *testing.T) {
	t.Parallel()
	acctest.PreCheck(t)
	for _, id := range []string{"consul", "a/b/c", "/consul"} {
		test(t, resource.TestCase{Steps: []resource.TestStep{{
			Config:       hclVersion("ns", acctest.ConsulVersion, ""),
			ResourceName: address, ImportState: true, ImportStateId: id, ExpectError: acctest.Says(`"<namespace>/<name>"`),
		}}})
	}
}
