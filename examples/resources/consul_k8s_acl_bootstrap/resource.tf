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

  # Where the management token is stored. These are the defaults.
  secret = {
    name = "consul-bootstrap-token"
    key  = "token"
  }

  # Only if the token was lost: any new value bootstraps again.
  # reset = "2026-03-14"
}

# Read the token with
#   kubectl -n consul get secret consul-bootstrap-token -o jsonpath='{.data.token}' | base64 -d
output "management_token" {
  description = "The Secret that holds the management token."
  value       = consul_k8s_acl_bootstrap.main.secret
}
