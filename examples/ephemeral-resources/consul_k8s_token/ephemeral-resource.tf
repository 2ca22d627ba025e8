terraform {
  required_providers {
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

resource "consul_k8s_cluster" "main" {
  name             = "consul"
  namespace        = "consul"
  create_namespace = true
  version          = "1.22.7"

  acl = { enabled = true }

  # Small, and easy to remove. In production, omit these four.
  replicas            = 1
  storage             = { size = "1Gi", retention = { when_deleted = "Delete" } }
  resources           = { requests = { cpu = "100m", memory = "256Mi" } }
  deletion_protection = false
}

resource "consul_k8s_acl_bootstrap" "main" {
  cluster = consul_k8s_cluster.main.id
}

resource "consul_k8s_policy" "reader" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "reader"
  rules   = "key_prefix \"\" { policy = \"read\" }"
}

# Created when a run starts, and revoked when it ends. It may be used in the
# provider block of another provider:
#
#   provider "consul" { token = ephemeral.consul_k8s_token.reader.secret_id }
ephemeral "consul_k8s_token" "reader" {
  cluster  = consul_k8s_acl_bootstrap.main.cluster
  policies = [consul_k8s_policy.reader.id]
  ttl      = "15m"
}
