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

# What Vault needs for its storage backend.
resource "consul_k8s_policy" "vault" {
  cluster     = consul_k8s_acl_bootstrap.main.cluster
  name        = "vault"
  description = "Vault's storage backend"

  rules = <<-HCL
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

# Rules may also be JSON.
resource "consul_k8s_policy" "traefik" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "traefik"
  rules = jsonencode({
    key_prefix = { "traefik" = { policy = "read" } }
  })
}
