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

resource "consul_k8s_policy" "vault" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "vault"
  rules   = <<-HCL
    key_prefix "vault/" {
      policy = "write"
    }
    service "vault" {
      policy = "write"
    }
    agent_prefix "" {
      policy = "read"
    }
    session_prefix "" {
      policy = "write"
    }
  HCL
}

resource "consul_k8s_token" "vault" {
  cluster     = consul_k8s_acl_bootstrap.main.cluster
  description = "Vault's storage backend"
  policies    = [consul_k8s_policy.vault.name]

  # Mount this Secret into Vault's pods. The value may be a whole file.
  secret = {
    namespace = "consul"
    name      = "vault-consul"
    key       = "consul.hcl"
    template  = <<-EOT
      storage "consul" {
        address = "consul.consul.svc:8500"
        path    = "vault/"
        token   = "{{.SecretID}}"
      }
    EOT
  }

  # A new token by the first apply after 90 days, or when the trigger changes.
  # The former one stays valid for the grace period.
  rotation = {
    after        = "2160h"
    trigger      = "2026-01-01"
    grace_period = "5m"
  }
}

# What requests without a token may do: look up services by DNS.
resource "consul_k8s_token" "anonymous" {
  cluster            = consul_k8s_acl_bootstrap.main.cluster
  accessor_id        = "00000000-0000-0000-0000-000000000002"
  description        = "Anonymous Token"
  templated_policies = [{ template_name = "builtin/dns" }]
}
